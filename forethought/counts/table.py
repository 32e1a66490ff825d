"""Contexts with the guesses after each, found by hash in a few microseconds, wherever they lie.

Contexts of all lengths share one table. A context's hash is made token by token from its end back,
so that one pass over the end of a text makes the hashes of all its lengths. The top bits choose a
*bucket*, a slice of two parallel arrays of 32 bits an entry: a *check*, the low half of the hash,
and where its *guesses* begin in a third array: best first, each a token id in the upper 24 bits and
its probability in the lower 8. Entries hold no tokens of their context: one in billions of lookups
may find another's guesses, and every guess is verified anyway.

Arrays are read through memoryviews: of a mapped file only the pages that are asked for are loaded,
and one number costs less than out of a numpy array.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from forethought.counts.corpus import Ids
from forethought.sampling.types import Probabilities

MAX_CONTEXT = 16
MAX_VOCAB_SIZE = 2**24
_MASK = 2**64 - 1
_FACTOR = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, odd
_SHIFT = 32
_CHECK = 2**32 - 1
_BUCKET_ENTRIES = 4  # on average, at most; at least half of it
_PROB_UNIT = 255

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Entries:
    """Contexts on their way into a table."""

    hashes: Hashes  # [n]
    num_occurrences: Ids  # [n]
    token_ids: Ids  # [n, M], guesses, best first
    probs: Probabilities  # [n, M], of these; 0 behind the last

    @staticmethod
    def join(parts: Sequence["Entries"], max_guesses: int) -> "Entries":
        """One after another."""
        none = np.zeros(0, dtype=np.int64)
        no_guesses = np.zeros((0, max_guesses))
        empty = Entries(none.astype(np.uint64), none, no_guesses.astype(np.int64), no_guesses)
        parts = [empty, *parts]
        return Entries(
            np.concatenate([part.hashes for part in parts]),
            np.concatenate([part.num_occurrences for part in parts]),
            np.concatenate([part.token_ids for part in parts]),
            np.concatenate([part.probs for part in parts]),
        )

    def most_frequent(self, limit: int) -> "Entries":
        """At most `limit`; of those that occurred equally often the first."""
        if len(self.hashes) <= limit:
            return self
        return self._at(np.sort(np.argsort(-self.num_occurrences, kind="stable")[:limit]))

    def by_hash(self) -> "Entries":
        """In ascending order; of equal hashes, which are next to impossible, the first."""
        return self._at(np.unique(self.hashes, return_index=True)[1])

    def _at(self, places: npt.NDArray[np.intp]) -> "Entries":
        return Entries(
            self.hashes[places],
            self.num_occurrences[places],
            self.token_ids[places],
            self.probs[places],
        )


@dataclass(frozen=True, slots=True)
class CountsTable:
    """Guesses by context."""

    vocab_size: int
    max_context: int  # longest context, tokens
    starts: memoryview  # [2**b + 1] uint32: where buckets begin in the two below, and their end
    checks: memoryview  # [n] uint32
    firsts: memoryview  # [n + 1] uint32: where each entry's guesses begin, and their end
    guesses: memoryview  # [g] uint32

    def __len__(self) -> int:
        return len(self.checks)

    def token_weights(self) -> Probabilities:
        """[V]: the sum of a token's probabilities after all contexts."""
        guesses = np.asarray(self.guesses)
        probs = (guesses & _PROB_UNIT) / _PROB_UNIT
        return np.bincount(guesses >> 8, probs, self.vocab_size).astype(np.float64)

    def guess(self, token_ids: Sequence[int]) -> tuple[int, float] | None:
        """The first of `distribution`, and its probability."""
        entry = self._find(token_ids)
        if entry is None:
            return None
        best = self.guesses[self.firsts[entry]]
        return best >> 8, (best & 0xFF) / _PROB_UNIT

    def distribution(self, token_ids: Sequence[int]) -> tuple[list[int], list[float]] | None:
        """The likeliest next tokens after a text, best first, and their estimated probabilities.

        Args:
            token_ids: the end of the text, `max_context` tokens of it if there are so many.

        Returns:
            What follows the longest suffix that is a context; None if no suffix is one. The
            probabilities are positive and sum to 1 at most, but for rounding.
        """
        entry = self._find(token_ids)
        if entry is None:
            return None
        guesses = self.guesses[self.firsts[entry] : self.firsts[entry + 1]].tolist()
        return [each >> 8 for each in guesses], [(each & 0xFF) / _PROB_UNIT for each in guesses]

    def _find(self, token_ids: Sequence[int]) -> int | None:
        """The entry of the longest suffix that has one."""
        shift = 64 - (len(self.starts) - 1).bit_length() + 1
        for context in reversed(list(_hashes(token_ids[-self.max_context :]))):
            bucket, check = context >> shift, context & _CHECK
            for entry in range(self.starts[bucket], self.starts[bucket + 1]):
                if self.checks[entry] == check:
                    return entry
        return None

    def continuation(self, token_ids: Sequence[int], num_tokens: int, min_prob: float) -> list[int]:
        """Guess after guess.

        Args:
            token_ids: as in `distribution`.
            num_tokens: most tokens to return.
            min_prob: stops before the token with which the product of the guesses' probabilities
                falls below it.
        """
        guesses: list[int] = []
        likelihood = 1.0
        for token_id, prob in islice(self._path(token_ids), num_tokens):
            likelihood *= prob
            if likelihood < min_prob:
                break
            guesses.append(token_id)
        return guesses

    def _path(self, token_ids: Sequence[int]) -> Iterator[tuple[int, float]]:
        text = list(token_ids[-self.max_context :])
        while (found := self.guess(text)) is not None:
            yield found
            text.append(found[0])


def make_table(entries: Entries, max_context: int, vocab_size: int) -> CountsTable:
    """Sorts entries into buckets."""
    entries = entries.by_hash()
    bits = max(1, (len(entries.hashes) // _BUCKET_ENTRIES).bit_length())
    buckets = (entries.hashes >> np.uint64(64 - bits)).astype(np.int64)
    starts = np.searchsorted(buckets, np.arange(2**bits + 1))
    probs = np.rint(entries.probs * _PROB_UNIT).astype(np.int64)
    probs[:, 0] = np.maximum(probs[:, 0], 1)
    is_kept = probs > 0
    return CountsTable(
        vocab_size,
        max_context,
        _view(starts),
        _view(entries.hashes & np.uint64(_CHECK)),
        _view(np.concatenate([[0], np.cumsum(is_kept.sum(axis=1))])),
        _view((entries.token_ids << 8 | probs)[is_kept]),
    )


def hash_contexts(parents: Hashes, left_token_ids: Ids) -> Hashes:
    """[C], the hashes of contexts from those of their parents and the tokens put before these.

    The same numbers as `_hashes`; the empty context has hash 0.
    """
    hashes = (parents + left_token_ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_FACTOR)
    mixed: Hashes = hashes ^ (hashes >> np.uint64(_SHIFT))
    return mixed


def _hashes(token_ids: Sequence[int]) -> Iterator[int]:
    """Of the last token, the last two, and so on."""
    context = 0
    for token_id in reversed(token_ids):
        context = (context + token_id + 1) * _FACTOR & _MASK
        context ^= context >> _SHIFT
        yield context


def _view(values: npt.NDArray[np.integer | np.unsignedinteger]) -> memoryview:
    return memoryview(values.astype("<u4").tobytes()).cast("I")
