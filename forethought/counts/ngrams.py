"""Counts all runs of up to N tokens with what follows them, by sorting.

A *context* is a run of n tokens before a counted token. Contexts of length n are numbered densely;
each is one of length n - 1, its *parent*, with one more token at the left: a tree that grows back
in time, with the empty context at its root. An *event* is a context with the token that followed;
its parent is the same token after the context's parent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from forethought.counts.corpus import Corpus, Ids

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class ContextCounts:
    """All contexts of one length, [C], and events after them, [E], ordered by context."""

    length: int  # n, tokens of each context
    parents: Ids  # [C], context of length n - 1
    left_token_ids: Ids  # [C], the token that was put before the parent
    event_contexts: Ids  # [E], context of each event
    event_token_ids: Ids  # [E], what followed
    event_parents: Ids  # [E], event of length n - 1
    event_counts: Ids  # [E]

    @property
    def num_contexts(self) -> int:
        return len(self.parents)


def count_contexts(corpus: Corpus, vocab_size: int, max_length: int) -> Iterator[ContextCounts]:
    """The contexts of length 0, 1, ..., `max_length`, as far as there are any.

    Args:
        corpus: whose answers are counted; a context never reaches back beyond its sample.
        vocab_size: all token ids are below.
        max_length: N.
    """
    token_ids = corpus.token_ids
    sample_starts = np.repeat(corpus.starts[:-1], np.diff(corpus.starts))
    is_answer = np.arange(len(token_ids)) >= np.repeat(corpus.answer_starts, np.diff(corpus.starts))
    places = np.flatnonzero(is_answer)  # [P], of the counted tokens
    num_before = places - sample_starts[places]
    contexts = np.zeros(len(places), dtype=np.int64)  # of each place
    events = np.zeros(len(places), dtype=np.int64)
    parents, left_token_ids = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for length in range(max_length + 1):
        if length:
            reach = num_before >= length
            places, num_before = places[reach], num_before[reach]
            keys = contexts[reach] * vocab_size + token_ids[places - length]
            keys, contexts = _number(keys)
            parents, left_token_ids = np.divmod(keys, vocab_size)
            events = events[reach]
        if not len(places):
            return
        event_keys, first, numbers, counts = _number_and_count(
            contexts * vocab_size + token_ids[places]
        )
        event_contexts, event_token_ids = np.divmod(event_keys, vocab_size)
        yield ContextCounts(
            length,
            parents,
            left_token_ids,
            event_contexts,
            event_token_ids,
            events[first],
            counts,
        )
        events = numbers


def _number(keys: Ids) -> tuple[Ids, Ids]:
    """The distinct keys in ascending order, and for each key its place among them."""
    distinct, numbers = np.unique(keys, return_inverse=True)
    return distinct, numbers.astype(np.int64)


def _number_and_count(keys: Ids) -> tuple[Ids, Indices, Ids, Ids]:
    """As `_number`, with where each distinct key is first and how often it occurs."""
    found: Any = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    distinct, first, numbers, counts = found
    return distinct, first, numbers.astype(np.int64), counts.astype(np.int64)
