"""From counts to a table: for each context worth keeping, the likeliest next token and its odds.

Probabilities are by interpolated Kneser-Ney smoothing (Kneser and Ney 1995; in this form Chen and
Goodman 1998). Of each count of an event a constant D is taken, and what that makes in all goes to
the shorter context:

    p(x | context) = (c(context, x) - D) / c(context) + b(context) p(x | parent)
    b(context) = D * distinct tokens after the context / c(context),  D = n1 / (n1 + 2 n2)

with n1 and n2 the number of events that count once and twice. The longest contexts count how often
an event occurred, all shorter ones after how many different tokens it did: they are asked where
the longer one says little, so what always follows the same longer one is no news from them.

A draft needs of each distribution only its likeliest token. That is the likeliest of the events,
or, where b is large, the parent's.

A context that would say what a shorter one says, as nearly as `min_change`, is left out: a lookup
takes the longest context that is there.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from forethought.counts.corpus import Corpus, Ids
from forethought.counts.ngrams import Level, count_levels
from forethought.counts.table import CountsTable, Entries, hash_contexts, make_table
from forethought.sampling.types import Probabilities

_USUAL_DISCOUNT = 0.75  # where there are too few events to estimate it
_NO_TOKEN = -1


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a table holds."""

    max_context: int = 5
    """Longest context, tokens (N)."""
    min_count: int = 1
    """Least occurrences of a context."""
    min_prob: float = 0.1
    """Contexts after which nothing is likelier, and was not after a shorter one, are left out."""
    min_change: float = 0.1
    """Least change of the probability for which a context with its parent's token is kept."""
    max_contexts: int = 400_000
    """Most contexts, those that occurred most; 10 bytes each in the file."""


@dataclass(frozen=True, slots=True)
class _Estimates:
    """What all contexts of one length say, [C], and the probabilities of their events, [E]."""

    best_token_ids: Ids  # [C]
    best_probs: Probabilities  # [C]
    event_probs: Probabilities  # [E]


@dataclass(frozen=True, slots=True)
class _Told:
    """What a lookup tells for each context of one length, [C], be it in the table or not."""

    token_ids: Ids
    probs: Probabilities


def build_table(corpus: Corpus, vocab_size: int, options: BuildOptions) -> CountsTable:
    """Counts, smooths, and keeps what says something. The same corpus makes the same table."""
    found: list[Entries] = []
    estimates, told, hashes = None, None, np.zeros(1, dtype=np.uint64)
    levels = [*count_levels(corpus, vocab_size, options.max_context), None]
    for level, longer in pairwise(levels):
        assert level is not None
        estimates = _estimate(level, _event_counts(level, longer), estimates)
        if told is None:  # nothing is guessed without a context
            told = _Told(np.array([_NO_TOKEN]), np.zeros(1))
            continue
        hashes = hash_contexts(hashes[level.parents], level.left_token_ids)
        totals = _totals(level)
        inherited = _Told(told.token_ids[level.parents], told.probs[level.parents])
        keep = (totals >= options.min_count) & _says_something(estimates, inherited, options)
        told = _Told(
            np.where(keep, estimates.best_token_ids, inherited.token_ids),
            np.where(keep, estimates.best_probs, inherited.probs),
        )
        found.append(Entries(hashes[keep], told.token_ids[keep], told.probs[keep], totals[keep]))
    return make_table(
        Entries.join(found).most_frequent(options.max_contexts), options.max_context, vocab_size
    )


def _totals(level: Level) -> Ids:
    """[C], how often each context occurred before a counted token."""
    counts = np.bincount(level.event_contexts, level.event_counts, level.num_contexts)
    return counts.astype(np.int64)


def _event_counts(level: Level, longer: Level | None) -> Ids:
    """[E], what each event counts."""
    if longer is None:
        return level.event_counts
    num_before = np.bincount(longer.event_parents, minlength=len(level.event_counts))
    return np.maximum(num_before, 1)  # 0: always where a sample begins


def _estimate(level: Level, counts: Ids, shorter: _Estimates | None) -> _Estimates:
    totals = np.bincount(level.event_contexts, counts, level.num_contexts)  # [C]
    if shorter is None:
        probs = counts / totals[level.event_contexts]
        return _Estimates(*_likeliest(level, probs), probs)
    discount = _discount(counts)
    num_distinct = np.bincount(level.event_contexts, minlength=level.num_contexts)
    backoff = discount * num_distinct / totals  # [C]
    probs = (counts - discount) / totals[level.event_contexts]
    probs += backoff[level.event_contexts] * shorter.event_probs[level.event_parents]
    token_ids, best = _likeliest(level, probs)
    unseen = backoff * shorter.best_probs[level.parents]
    is_unseen = unseen > best
    return _Estimates(
        np.where(is_unseen, shorter.best_token_ids[level.parents], token_ids),
        np.where(is_unseen, unseen, best),
        probs,
    )


def _discount(counts: Ids) -> float:
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return once / (once + 2 * twice) if once and twice else _USUAL_DISCOUNT


def _likeliest(level: Level, probs: Probabilities) -> tuple[Ids, Probabilities]:
    """Of each context its likeliest event: token and probability, [C]; of equals the lowest id."""
    starts = np.searchsorted(level.event_contexts, np.arange(level.num_contexts))
    highest = np.maximum.reduceat(probs, starts)
    events = np.flatnonzero(probs == highest[level.event_contexts])
    contexts = level.event_contexts[events]
    first = np.concatenate([[True], contexts[1:] != contexts[:-1]])
    return level.event_token_ids[events[first]], highest


def _says_something(
    estimates: _Estimates, inherited: _Told, options: BuildOptions
) -> npt.NDArray[np.bool_]:
    """[C], whether a lookup would tell less without the context."""
    differs: npt.NDArray[np.bool_] = estimates.best_token_ids != inherited.token_ids
    differs |= np.abs(estimates.best_probs - inherited.probs) >= options.min_change
    differs &= np.maximum(estimates.best_probs, inherited.probs) >= options.min_prob
    return differs
