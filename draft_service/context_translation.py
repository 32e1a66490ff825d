"""A context in the target's tokens, as tokens of the draft model.

The committed tokens are turned to text and tokenized anew, piece by piece. Where pieces begin
follows from the target's tokens alone, left to right: a piece ends before a special token, or once
it has some tokens and the next one begins a word with its space, where tokenizers cut in any case.
So the translation is a function of the committed tokens, the same whether a session came here
round by round or was opened again elsewhere; and only the last piece, which is still growing, is
tokenized again each round. What one piece after another could change against tokenizing the whole
text at once costs acceptance at most: any context gives a q, and any q is exact.

A character that is not finished is no text yet. Its tokens are handed over as they are where the
draft has the same ones, and otherwise nothing is to be drafted until it is whole.

Special tokens are never written out. They become the draft's counterpart, or nothing.
"""

from codecs import getincrementaldecoder
from collections.abc import Sequence
from dataclasses import dataclass

from draft_service.vocabulary import SharedVocabulary, texts_of
from forethought.errors import CachePositionMismatchError
from forethought.models.text.tokenizer import TextTokenizer

MIN_PIECE_LEN = 32
"""Tokens that a piece has before a word may end it."""
MAX_PIECE_LEN = 256
"""Tokens after which any character may begin the next piece: not all languages write spaces."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A context in draft tokens, as far as its reader does not know it."""

    start: int  # tokens before it are known
    token_ids: Sequence[int]  # all from there on
    is_whole: bool  # False: the end could not be translated, so a guess would not follow it

    @property
    def num_tokens(self) -> int:
        """Of the whole context."""
        return self.start + len(self.token_ids)


class Translator:
    """From one tokenizer to another. Immutable.

    Args:
        target: the tokenizer of the contexts.
        draft: the tokenizer of the draft model.
        shared: the tokens of both.

    Raises:
        VocabularyMismatchError: the target's tokens cannot be told.
    """

    def __init__(
        self, target: TextTokenizer, draft: TextTokenizer, shared: SharedVocabulary
    ) -> None:
        texts = texts_of(target)
        self.texts = texts.texts
        self.draft_ids = shared.draft_ids
        self._drops_first_space = texts.drops_first_space
        self._draft = draft
        self.can_cut, self._is_space_added = _cuts(draft)
        self.head = _head(draft)
        """What the draft model expects before any text."""
        self.filler = min(draft.eos_token_ids, default=0)
        """Stands for a context of which nothing is left: a model needs one token."""

    def encode(self, data: bytes, *, is_first: bool) -> list[int]:
        """The draft's tokens for text, whole characters; `is_first` after a special token."""
        if self._drops_first_space and is_first:
            data = data.removeprefix(b" ")
        if self._is_space_added and not is_first:
            data = data.removeprefix(b" ")
        text = data.decode(errors="replace")
        return self._draft.encode(text, add_special_tokens=False) if text else []

    def num_unfinished(self, token_ids: Sequence[int]) -> int:
        """How many tokens at the end hold a character that more tokens may finish."""
        texts = [self.texts[token_id] or b"" for token_id in token_ids]
        for num in range(len(texts) + 1):
            decoder = getincrementaldecoder("utf-8")("replace")
            decoder.decode(b"".join(texts[: len(texts) - num]))
            if not decoder.getstate()[0]:
                return num
        return len(texts)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What will not change any more."""

    end: int  # target tokens up to here
    num_draft_tokens: int  # of the context up to here
    is_special: bool  # text behind it begins anew


class DraftContext:
    """The context of one session, kept up to date.

    Args:
        translator: between the vocabularies.
        token_ids: committed so far, at least one.
    """

    def __init__(self, translator: Translator, token_ids: Sequence[int]) -> None:
        self._translator = translator
        self._log: list[int] = []  # the target's tokens
        self._pieces: list[_Piece] = []
        self._draft_ids: list[int] = []  # of the pieces
        self._num_known = 0  # of these, to the reader of translations
        self.commit(len(token_ids), token_ids)

    def commit(self, position: int, committed_token_ids: Sequence[int]) -> list[int]:
        """Makes `position` the committed length, as `CachedSequence.commit` does.

        Returns:
            The tokens in whose place the committed ones came.

        Raises:
            CachePositionMismatchError: tokens before these are not known.
        """
        start = position - len(committed_token_ids)
        if not 0 <= start <= len(self._log):
            raise CachePositionMismatchError(
                f"tokens for [{start}, {position}) where {len(self._log)} are known"
            )
        dropped = self._log[start:]
        del self._log[start:]
        self._log.extend(committed_token_ids)
        # What ended a piece may be the token behind it, so that one has to be there still.
        while self._pieces and self._pieces[-1].end >= start:
            self._pieces.pop()
        if not self._pieces:
            self._begin()
        del self._draft_ids[self._pieces[-1].num_draft_tokens :]
        self._num_known = min(self._num_known, len(self._draft_ids))
        self._end_pieces()
        return dropped

    def translation(self) -> Translation:
        """The context, from where it differs from what `mark_known` was said of."""
        growing, is_whole = self._growing()
        start = self._num_known
        token_ids = [*self._draft_ids[start:], *growing]
        if not token_ids and not start:
            token_ids = [self._translator.filler]
        return Translation(start, token_ids, is_whole)

    def mark_known(self) -> None:
        """Whoever reads translations has taken the last one over."""
        self._num_known = len(self._draft_ids)

    def _begin(self) -> None:
        """With what the draft model expects before any text, unless the target begins with it."""
        translator = self._translator
        is_there = translator.draft_ids.get(self._log[0]) in translator.head
        self._draft_ids = [] if is_there else list(translator.head)
        self._num_known = 0
        self._pieces = [_Piece(0, len(self._draft_ids), is_special=True)]

    def _end_pieces(self) -> None:
        """Translates what is behind the last piece, except for the one that is still growing."""
        translator = self._translator
        begin = self._pieces[-1].end
        for index in range(begin, len(self._log)):
            text = translator.texts[self._log[index]]
            if text is None:
                if index > begin:
                    self._end_piece(index)
                self._end_special(index)
                begin = index + 1
            elif self._may_begin_piece(text, index, begin):
                self._end_piece(index)
                begin = index

    def _may_begin_piece(self, text: bytes, index: int, begin: int) -> bool:
        """Whether a token at `index` ends the piece from `begin` on."""
        if not self._translator.can_cut or index - begin < MIN_PIECE_LEN:
            return False
        if index - begin >= MAX_PIECE_LEN:
            # Not in the middle of a character.
            return bool(text) and not 0x80 <= text[0] < 0xC0
        before = self._translator.texts[self._log[index - 1]] or b" "
        word = text.decode(errors="ignore")
        return word[:1] == " " and word[1:2].isalnum() and not before[-1:].isspace()

    def _end_piece(self, end: int) -> None:
        self._draft_ids += self._encode(self._log[self._pieces[-1].end : end])
        self._pieces.append(_Piece(end, len(self._draft_ids), is_special=False))

    def _end_special(self, index: int) -> None:
        """A special token, or an id without a token, is a piece of its own."""
        counterpart = self._translator.draft_ids.get(self._log[index])
        self._draft_ids += [] if counterpart is None else [counterpart]
        self._pieces.append(_Piece(index + 1, len(self._draft_ids), is_special=True))

    def _growing(self) -> tuple[list[int], bool]:
        """The draft tokens of the last piece, and whether they are all of it."""
        tokens = self._log[self._pieces[-1].end :]
        num_whole = len(tokens) - self._translator.num_unfinished(tokens)
        ids = self._encode(tokens[:num_whole])
        unfinished = [self._translator.draft_ids.get(token_id) for token_id in tokens[num_whole:]]
        known = [token_id for token_id in unfinished if token_id is not None]
        if len(known) < len(unfinished):
            return ids, False
        return [*ids, *known], True

    def _encode(self, token_ids: Sequence[int]) -> list[int]:
        """The draft's tokens for ordinary tokens behind the last piece."""
        texts = self._translator.texts
        data = b"".join(texts[token_id] or b"" for token_id in token_ids)
        return self._translator.encode(data, is_first=self._pieces[-1].is_special)


def _cuts(draft: TextTokenizer) -> tuple[bool, bool]:
    """Whether text may be cut before the space that begins a word, and whether the tokenizer then
    adds that space itself, as SentencePiece does before any text."""

    def encode(text: str) -> list[int]:
        return draft.encode(text, add_special_tokens=False)

    whole, first = encode("a b"), encode("a")
    if whole == first + encode(" b"):
        return True, False
    is_space_added = whole == first + encode("b")
    return is_space_added, is_space_added


def _head(draft: TextTokenizer) -> list[int]:
    """What the tokenizer adds before a text, such as a beginning-of-sequence token."""
    text = draft.encode("a", add_special_tokens=False)
    whole = draft.encode("a", add_special_tokens=True)
    for start in range(len(whole) - len(text) + 1):
        if whole[start : start + len(text)] == text:
            return whole[:start]
    return []
