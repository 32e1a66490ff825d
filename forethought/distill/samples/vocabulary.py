"""The tokens that a draft can say: the most frequent ones of the target's own texts.

A head over all of a vocabulary costs a small draft more than everything else. Leaving tokens out
is exact: q has no mass there, and the target's tokens come back as recovered ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from forethought.distill.data.shards import Samples, TargetOutputs


@dataclass(frozen=True, slots=True)
class DraftVocabulary:
    """R of the target's V tokens."""

    token_ids: torch.Tensor  # [R] int32, ascending
    rows: torch.Tensor  # [V] int64: the row of each token, R of those left out

    @classmethod
    def of(cls, token_ids: torch.Tensor, vocab_size: int) -> Self:
        """Args:
        token_ids: distinct, in any order.
        vocab_size: V.
        """
        token_ids = token_ids.int().sort().values
        rows = torch.full((vocab_size,), len(token_ids))
        rows[token_ids.long()] = torch.arange(len(token_ids))
        return cls(token_ids, rows)

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def is_whole(self) -> bool:
        """Whether no token is left out."""
        return len(self.token_ids) == len(self.rows)


def expected_counts(
    samples: Iterable[Samples], outputs: Iterable[TargetOutputs], vocab_size: int
) -> np.ndarray:
    """How often each token stands in an answer, [V] float64.

    What was drawn counts, and so does what might have been: each position adds the probabilities of
    its likeliest tokens. Ten thousand frequent tokens cannot be told from a few hundred thousand
    drawn ones alone.
    """
    counts = np.zeros(vocab_size)
    for texts, computed in zip(samples, outputs, strict=True):
        is_answer = answer_mask(texts)
        counts += np.bincount(texts.token_ids[is_answer], minlength=vocab_size)
        before = torch.from_numpy(np.flatnonzero(is_answer) - 1)
        ids = computed.top_token_ids[before].flatten().numpy()
        probs = computed.top_logprobs[before].float().exp().flatten().numpy()
        counts += np.bincount(ids, weights=probs, minlength=vocab_size)
    return counts


def most_frequent(counts: np.ndarray, size: int, always: Iterable[int]) -> DraftVocabulary:
    """The `size` tokens with the highest counts, and those of `always` among them."""
    counts = counts.copy()
    counts[list(always)] = np.inf
    chosen = np.argsort(-counts, kind="stable")[:size]
    return DraftVocabulary.of(torch.from_numpy(chosen), len(counts))


def answer_mask(samples: Samples) -> np.ndarray:
    """[T] bool: which tokens belong to an answer."""
    steps = np.zeros(samples.num_tokens + 1, dtype=np.int64)
    np.add.at(steps, samples.answer_starts, 1)
    np.add.at(steps, samples.starts[1:], -1)
    return np.cumsum(steps[:-1]) > 0
