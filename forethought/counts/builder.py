"""From counts to a table: for each context worth keeping, the likeliest next token and its odds.

Probabilities are by interpolated Kneser-Ney smoothing (Kneser and Ney 1995; in this form Chen and
Goodman 1998). Of each count of an event a constant D is taken, and what that makes in all goes to
the shorter context:

    p(x | context) = (c(context, x) - D) / c(context) + b(context) p(x | parent)
    b(context) = D * distinct tokens after the context / c(context),  D = n1 / (n1 + 2 n2)

with n1 and n2 the number of events that count once and twice. The longest contexts count how often
an event occurred, all shorter ones after how many different tokens it did: they are asked where
the longer one says little, so what always follows the same longer one is no news from them.

What is kept of each distribution are its `max_guesses` likeliest tokens, those of the parent among
them where b is large. A context whose likeliest token and its probability are those of a shorter
one, as nearly as `min_change`, is left out: a lookup takes the longest context that is there.
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
    min_count: int = 2
    """Least occurrences of a context."""
    max_guesses: int = 8
    """Most tokens to keep after a context (M)."""
    min_prob: float = 0.1
    """Contexts after which nothing is likelier, and was not after a shorter one, are left out."""
    min_change: float = 0.1
    """Least change of the probability for which a context with its parent's token is kept."""
    max_contexts: int = 100_000
    """Most contexts, those that occurred most; some 40 bytes each in the file."""


@dataclass(frozen=True, slots=True)
class _Lists:
    """The likeliest tokens after contexts of one length, best first, of equals the lowest id."""

    rows: Ids  # [C], where each context of that length is in the two below; -1: it is too rare
    token_ids: Ids  # [F, M], _NO_TOKEN behind the last
    probs: Probabilities  # [F, M], 0 there


@dataclass(frozen=True, slots=True)
class _Told:
    """The best guess after each context that is not too rare, be it in the table or not."""

    token_ids: Ids  # [F]
    probs: Probabilities  # [F]


def build_table(corpus: Corpus, vocab_size: int, options: BuildOptions) -> CountsTable:
    """Counts, smooths, and keeps what says something. The same corpus makes the same table."""
    found: list[Entries] = []
    event_probs, lists, told = np.zeros(0), None, None
    hashes = np.zeros(1, dtype=np.uint64)
    levels = [*count_levels(corpus, vocab_size, options.max_context), None]
    for level, longer in pairwise(levels):
        assert level is not None
        totals = _sum_by_context(level, level.event_counts)
        rows = _number(totals >= options.min_count)
        event_probs, backoff = _smooth(level, _event_counts(level, longer), event_probs)
        if lists is None or told is None:  # nothing is guessed without a context
            lists = _merge(level, rows, event_probs, None, options.max_guesses)
            told = _Told(np.full(len(lists.probs), _NO_TOKEN), np.zeros(len(lists.probs)))
            continue
        frequent = np.flatnonzero(rows >= 0)
        parents = lists.rows[level.parents[frequent]]  # as frequent at least
        shorter = _Lists(rows, lists.token_ids[parents], lists.probs[parents])
        shorter.probs[:] *= backoff[frequent, None]
        lists = _merge(level, rows, event_probs, shorter, options.max_guesses)
        hashes = hash_contexts(hashes[level.parents], level.left_token_ids)
        inherited = _Told(told.token_ids[parents], told.probs[parents])
        best_token_ids, best_probs = lists.token_ids[:, 0], lists.probs[:, 0]
        keep = _says_something(best_token_ids, best_probs, inherited, options)
        told = _Told(
            np.where(keep, best_token_ids, inherited.token_ids),
            np.where(keep, best_probs, inherited.probs),
        )
        found.append(
            Entries(
                hashes[frequent[keep]],
                totals[frequent[keep]],
                lists.token_ids[keep],
                lists.probs[keep],
            )
        )
    entries = Entries.join(found, options.max_guesses).most_frequent(options.max_contexts)
    return make_table(entries, options.max_context, vocab_size)


def _sum_by_context(level: Level, values: Ids) -> Ids:
    """[C], of values of events."""
    return np.bincount(level.event_contexts, values, level.num_contexts).astype(np.int64)


def _number(chosen: npt.NDArray[np.bool_]) -> Ids:
    """The place of each among the chosen ones; -1 for the others."""
    return np.where(chosen, np.cumsum(chosen) - 1, -1)


def _event_counts(level: Level, longer: Level | None) -> Ids:
    """[E], what each event counts."""
    if longer is None:
        return level.event_counts
    num_before = np.bincount(longer.event_parents, minlength=len(level.event_counts))
    return np.maximum(num_before, 1)  # 0: always where a sample begins


def _smooth(
    level: Level, counts: Ids, shorter_probs: Probabilities
) -> tuple[Probabilities, Probabilities]:
    """The probability of each event, [E], and what of it each context left to its parent, [C]."""
    totals = _sum_by_context(level, counts)
    if not level.length:
        return counts / totals[level.event_contexts], np.zeros(1)
    discount = _discount(counts)
    num_distinct = np.bincount(level.event_contexts, minlength=level.num_contexts)
    backoff = discount * num_distinct / totals
    probs = (counts - discount) / totals[level.event_contexts]
    probs += backoff[level.event_contexts] * shorter_probs[level.event_parents]
    return probs, backoff


def _discount(counts: Ids) -> float:
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return once / (once + 2 * twice) if once and twice else _USUAL_DISCOUNT


def _merge(
    level: Level, rows: Ids, probs: Probabilities, shorter: _Lists | None, max_guesses: int
) -> _Lists:
    """The likeliest of the events of frequent contexts and of what their parents' lists leave.

    A token of the parent that is an event too counts once, as that: it is the likelier of the two.
    """
    num_rows = int(rows.max(initial=-1)) + 1
    is_frequent = rows[level.event_contexts] >= 0
    where = rows[level.event_contexts][is_frequent]
    token_ids, probs = level.event_token_ids[is_frequent], probs[is_frequent]
    if shorter is not None:
        where = np.concatenate([where, np.repeat(np.arange(num_rows), shorter.probs.shape[1])])
        token_ids = np.concatenate([token_ids, shorter.token_ids.ravel()])
        probs = np.concatenate([probs, shorter.probs.ravel()])
    order = np.lexsort((-probs, token_ids, where))
    where, token_ids, probs = where[order], token_ids[order], probs[order]
    is_first = np.ones(len(where), dtype=np.bool_)
    is_first[1:] = (where[1:] != where[:-1]) | (token_ids[1:] != token_ids[:-1])
    is_first &= token_ids != _NO_TOKEN
    where, token_ids, probs = where[is_first], token_ids[is_first], probs[is_first]
    order = np.lexsort((token_ids, -probs, where))
    where, token_ids, probs = where[order], token_ids[order], probs[order]
    ranks = np.arange(len(where)) - np.searchsorted(where, where)
    is_kept = ranks < max_guesses
    lists = _Lists(
        rows,
        np.full((num_rows, max_guesses), _NO_TOKEN),
        np.zeros((num_rows, max_guesses)),
    )
    lists.token_ids[where[is_kept], ranks[is_kept]] = token_ids[is_kept]
    lists.probs[where[is_kept], ranks[is_kept]] = probs[is_kept]
    return lists


def _says_something(
    token_ids: Ids, probs: Probabilities, inherited: _Told, options: BuildOptions
) -> npt.NDArray[np.bool_]:
    """Whether a lookup would tell less without the context."""
    differs: npt.NDArray[np.bool_] = token_ids != inherited.token_ids
    differs |= np.abs(probs - inherited.probs) >= options.min_change
    differs &= np.maximum(probs, inherited.probs) >= options.min_prob
    return differs
