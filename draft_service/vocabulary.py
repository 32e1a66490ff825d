"""Which tokens of a draft model's vocabulary the target's has too.

Token-level intersection (Timor et al., arXiv 2502.05202): a draft model with another tokenizer may
guess those tokens that both vocabularies hold, and its distribution over them, normalised, is q. As
q is the distribution that guesses are drawn from, the output is exact whatever the two share; how
often a guess stays depends on how much of the target's text is made of shared tokens.

Tokens are the same if they stand for the same bytes. So "Ġthe" of a byte-level vocabulary meets
"▁the" of SentencePiece, and a byte token such as "<0x0A>" the token of that one byte. Where a
vocabulary has both a byte token and an ordinary one for the same byte, the ordinary one counts: the
tokenizer makes no other. Special tokens are the same by their names only, except for those that end
an answer, which also meet by what they are for.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from forethought.errors import VocabularyMismatchError
from forethought.models.text.token_texts import TokenTexts
from forethought.models.text.tokenizer import TextTokenizer

MIN_SHARE = 0.01
"""Least part of the target's vocabulary that has to be shared. With less only letters and syllables
are left of a vocabulary of ten thousands, and a target hardly ever says those."""


@dataclass(frozen=True)
class SharedVocabulary:
    """The tokens of both vocabularies, [n] pairs of ids in ascending order of the target's."""

    target_token_ids: npt.NDArray[np.int64]  # [n], distinct
    draft_token_ids: npt.NDArray[np.int64]  # [n], distinct
    num_target_tokens: int  # of the whole vocabulary, gaps left out

    def __len__(self) -> int:
        return len(self.target_token_ids)

    @property
    def share(self) -> float:
        """Part of the target's tokens that are shared, in [0, 1]."""
        return len(self) / max(self.num_target_tokens, 1)

    @cached_property
    def draft_ids(self) -> dict[int, int]:
        """The draft's id of each shared token, by the target's."""
        target_ids, draft_ids = self.target_token_ids.tolist(), self.draft_token_ids.tolist()
        return dict(zip(target_ids, draft_ids, strict=True))


def shared_vocabulary(
    target: TextTokenizer, draft: TextTokenizer, min_share: float = MIN_SHARE
) -> SharedVocabulary:
    """What a draft may guess for a target.

    Raises:
        VocabularyMismatchError: less than `min_share` of the target's tokens, or none, or one of
            the tokenizers does not tell what its tokens stand for.
    """
    target_texts, draft_texts = texts_of(target), texts_of(draft)
    draft_ids = _ids_by_text(draft_texts)
    pairs = {
        target_id: draft_ids[text]
        for text, target_id in _ids_by_text(target_texts).items()
        if text in draft_ids
    }
    pairs |= _special_pairs(target, target_texts, draft, draft_texts)
    target_ids = sorted(pairs)
    shared = SharedVocabulary(
        target_token_ids=np.array(target_ids, dtype=np.int64),
        draft_token_ids=np.array([pairs[target_id] for target_id in target_ids], dtype=np.int64),
        num_target_tokens=sum(text is not None for text in target_texts.texts)
        + len(target_texts.special_token_ids),
    )
    if not len(shared) or shared.share < min_share:
        raise VocabularyMismatchError(
            f"{draft.name} has {len(shared)} of the {shared.num_target_tokens} tokens of "
            f"{target.name}, too few to draft for it; at least {min_share:.0%} are needed",
            metadata={"draft": draft.name, "target": target.name},
        )
    return shared


def texts_of(tokenizer: TextTokenizer) -> TokenTexts:
    """What the tokens stand for.

    Raises:
        VocabularyMismatchError: it cannot be told.
    """
    texts = tokenizer.token_texts
    if texts is None:
        raise VocabularyMismatchError(
            f"the tokenizer of {tokenizer.name} has a decoder that is not known here, so its "
            "tokens cannot be translated",
            metadata={"model": tokenizer.name},
        )
    return texts


def _ids_by_text(texts: TokenTexts) -> dict[bytes, int]:
    """The token for each text: an ordinary one before a byte token, then the lowest id."""
    ids: dict[bytes, int] = {}
    for text, token_id in _by_preference(texts):
        ids.setdefault(text, token_id)
    return ids


def _by_preference(texts: TokenTexts) -> Iterable[tuple[bytes, int]]:
    known = [(text, token_id) for token_id, text in enumerate(texts.texts) if text]
    return sorted(known, key=lambda each: (each[1] in texts.byte_token_ids, each[1]))


def _special_pairs(
    target: TextTokenizer, target_texts: TokenTexts, draft: TextTokenizer, draft_texts: TokenTexts
) -> dict[int, int]:
    """Equal names; then what is left of the tokens that end an answer, in the order of ids."""
    pairs = {
        target_id: draft_texts.special_token_ids[name]
        for name, target_id in target_texts.special_token_ids.items()
        if name in draft_texts.special_token_ids
    }
    special = set(target_texts.special_token_ids.values())
    draft_special = set(draft_texts.special_token_ids.values())
    ends = sorted((target.eos_token_ids & special) - pairs.keys())
    draft_ends = sorted((draft.eos_token_ids & draft_special) - set(pairs.values()))
    return pairs | dict(zip(ends, draft_ends, strict=False))
