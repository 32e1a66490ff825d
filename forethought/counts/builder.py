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

import numpy as np
import numpy.typing as npt

from forethought.counts.corpus import Corpus, Ids
from forethought.counts.ngrams import ContextCounts, count_contexts
from forethought.counts.table import CountsTable, Entries, Hashes, hash_contexts, make_table
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


@dataclass(frozen=True, slots=True)
class _Step:
    """All that contexts of one length leave for those that are one token longer."""

    hashes: Hashes  # [C]
    event_probs: Probabilities  # [E]
    lists: _Lists
    told: _Told


def build_table(corpus: Corpus, vocab_size: int, options: BuildOptions) -> CountsTable:
    """Counts, smooths, and keeps what says something. The same corpus makes the same table."""
    by_length = list(count_contexts(corpus, vocab_size, options.max_context))
    found: list[Entries] = []
    step = _begin(by_length[0], _event_counts(*by_length[:2]), options)
    for place, contexts in enumerate(by_length[1:], 1):
        counts = _event_counts(*by_length[place : place + 2])
        step, entries = _lengthen(step, contexts, counts, options)
        found.append(entries)
    entries = Entries.join(found, options.max_guesses).most_frequent(options.max_contexts)
    return make_table(entries, options.max_context, vocab_size)


def _begin(contexts: ContextCounts, counts: Ids, options: BuildOptions) -> _Step:
    """The empty context, after which nothing is guessed."""
    probs = counts / counts.sum()
    lists = _merge(contexts, np.zeros(1, dtype=np.int64), probs, None, options.max_guesses)
    nothing = _Told(np.full(1, _NO_TOKEN), np.zeros(1))
    return _Step(np.zeros(1, dtype=np.uint64), probs, lists, nothing)


def _lengthen(
    step: _Step, contexts: ContextCounts, counts: Ids, options: BuildOptions
) -> tuple[_Step, Entries]:
    """The next step, and those of its contexts that are kept."""
    totals = _sum_by_context(contexts, contexts.event_counts)
    is_frequent = totals >= options.min_count
    rows = np.where(is_frequent, np.cumsum(is_frequent) - 1, -1)
    frequent = np.flatnonzero(is_frequent)
    parents = step.lists.rows[contexts.parents[frequent]]  # at least as frequent
    probs, backoff = _smooth(contexts, counts, step.event_probs)
    left = step.lists.probs[parents] * backoff[frequent, None]
    shorter = _Lists(rows, step.lists.token_ids[parents], left)
    lists = _merge(contexts, rows, probs, shorter, options.max_guesses)
    inherited = _Told(step.told.token_ids[parents], step.told.probs[parents])
    best = _Told(lists.token_ids[:, 0], lists.probs[:, 0])
    keep = _says_something(best, inherited, options)
    told = _Told(
        np.where(keep, best.token_ids, inherited.token_ids),
        np.where(keep, best.probs, inherited.probs),
    )
    hashes = hash_contexts(step.hashes[contexts.parents], contexts.left_token_ids)
    kept = frequent[keep]
    entries = Entries(hashes[kept], totals[kept], lists.token_ids[keep], lists.probs[keep])
    return _Step(hashes, probs, lists, told), entries


def _sum_by_context(contexts: ContextCounts, values: Ids) -> Ids:
    """[C], of values of events."""
    return np.bincount(contexts.event_contexts, values, contexts.num_contexts).astype(np.int64)


def _event_counts(contexts: ContextCounts, longer: ContextCounts | None = None) -> Ids:
    """[E], what each event counts."""
    if longer is None:
        return contexts.event_counts
    num_before = np.bincount(longer.event_parents, minlength=len(contexts.event_counts))
    return np.maximum(num_before, 1)  # 0: always where a sample begins


def _smooth(
    contexts: ContextCounts, counts: Ids, shorter_probs: Probabilities
) -> tuple[Probabilities, Probabilities]:
    """The probability of each event, [E], and what of it each context left to its parent, [C]."""
    totals = _sum_by_context(contexts, counts)
    discount = _discount(counts)
    num_distinct = np.bincount(contexts.event_contexts, minlength=contexts.num_contexts)
    backoff = discount * num_distinct / totals
    probs = (counts - discount) / totals[contexts.event_contexts]
    probs += backoff[contexts.event_contexts] * shorter_probs[contexts.event_parents]
    return probs, backoff


def _discount(counts: Ids) -> float:
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return once / (once + 2 * twice) if once and twice else _USUAL_DISCOUNT


def _merge(
    contexts: ContextCounts,
    rows: Ids,
    probs: Probabilities,
    shorter: _Lists | None,
    max_guesses: int,
) -> _Lists:
    """The likeliest of the events of frequent contexts and of what their parents' lists leave.

    A token of the parent that is an event too counts once, as that: it is the likelier of the two.
    """
    num_rows = int(rows.max(initial=-1)) + 1
    is_frequent = rows[contexts.event_contexts] >= 0
    where = rows[contexts.event_contexts][is_frequent]
    token_ids, probs = contexts.event_token_ids[is_frequent], probs[is_frequent]
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


def _says_something(best: _Told, inherited: _Told, options: BuildOptions) -> npt.NDArray[np.bool_]:
    """[F], whether a lookup would tell less without the context."""
    differs: npt.NDArray[np.bool_] = best.token_ids != inherited.token_ids
    differs |= np.abs(best.probs - inherited.probs) >= options.min_change
    differs &= np.maximum(best.probs, inherited.probs) >= options.min_prob
    return differs
