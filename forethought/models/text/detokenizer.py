"""Text from a stream of tokens, piece by piece, without half characters.

A token is some bytes, not some characters: an emoji may come in four tokens. The decoder shows an
unfinished character as U+FFFD, so text that ends in one is held until the next tokens complete
it. An unfinished character is at most three bytes long and so lies in the last three tokens.
What is held before those can never change and is given out, so garbage cannot pile up.

A piece is what its tokens add to the text of the tokens just before, because some decoders treat
the start of a text in a special way (SentencePiece drops its first space). Only the tokens of the
last piece are kept for that, so a token costs the same at any length.

For byte-level vocabularies the joined pieces are the text of all ids, whatever the ids. With the
byte tokens of SentencePiece they are for valid text: the library turns a whole run of byte tokens
into U+FFFD once one of them fits nowhere, and a character that was given out before stays.
"""

from collections.abc import Sequence
from itertools import islice

from forethought.models.text.tokenizer import TextTokenizer

_REPLACEMENT = "\ufffd"
_LONGEST_UNFINISHED = 3  # bytes of a UTF-8 character (RFC 3629) that lacks its last one
_MOST_HELD = 16  # byte-level vocabularies never get there: a cut is found within 7
_CONTEXT_TOKENS = 8


class StreamingDetokenizer:
    """Turns token ids into pieces of text, one at a time.

    `context_token_ids` come before the first token, such as the prompt. Their text is not given
    out, except a character that they leave unfinished.
    """

    def __init__(self, tokenizer: TextTokenizer, context_token_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []  # the tokens of the last piece
        self._before_text = ""
        self._held: list[int] = []  # tokens whose text is not given out yet
        shown = (
            token_id for token_id in reversed(context_token_ids) if tokenizer.has_text(token_id)
        )
        for token_id in reversed(list(islice(shown, _CONTEXT_TOKENS))):
            self.push(token_id)

    def push(self, token_id: int) -> str:
        """The text that is certain with this token; empty while a character is unfinished."""
        if not self._tokenizer.has_text(token_id):
            return ""
        self._held.append(token_id)
        text = self._text_of(self._held)
        if not text.endswith(_REPLACEMENT):
            return self._give_out(len(self._held), text)
        for count in range(len(self._held) - _LONGEST_UNFINISHED, 0, -1):
            settled = self._text_of(self._held[:count])
            # Unequal where a character, whole or broken, reaches over the cut.
            if settled + self._tokenizer.decode(self._held[count:]) == text:
                return self._give_out(count, settled)
        return self._give_out(len(self._held), text) if len(self._held) >= _MOST_HELD else ""

    def flush(self) -> str:
        """The text that is still held, at the end of the stream."""
        return self._give_out(len(self._held), self._text_of(self._held)) if self._held else ""

    def _text_of(self, token_ids: list[int]) -> str:
        """What `token_ids` add to the text of the tokens before them."""
        both = self._tokenizer.decode(self._before + token_ids)
        if both.startswith(self._before_text):
            return both[len(self._before_text) :]
        # They changed what is before them, which is out already: take them on their own.
        return self._tokenizer.decode(token_ids)

    def _give_out(self, count: int, text: str) -> str:
        self._before, self._held = self._held[:count], self._held[count:]
        self._before_text = self._tokenizer.decode(self._before)
        return text
