"""What the drafts of a feature draft stand on: a session's tokens, and the target's hidden states.

A token at position i goes into the draft together with the hidden state at i - 1. So the draft's
own sequence begins behind the first hidden state that there is, and its place j is position
first + 1 + j of the session:

    session          t0 t1 t2 t3 t4 t5        committed, t5 last
    hidden states          f2 f3 f4           of the target: from `first` on, to the last but one
    draft's tokens            t3 t4 t5 | d0 d1
    its inputs                f2 f3 f4 | e0 e1    e: its own guess of f5, f6

Where it begins does not matter to it: positions are told apart by rotation, which is relative.

What is computed from e is computed again in the next round, from f. When hidden states are missing
in between, the sequence begins anew with the ones behind the gap; when it grows too long for the
draft, with the last quarter of what it may be.
"""

from collections.abc import Sequence

import numpy as np
import torch

from forethought.engine.cache.seen_tokens import SeenTokens
from forethought.engine.cache.sequence import CachedSequence, common_prefix_len
from forethought.engine.lean.feature_draft import FeatureDecoder
from forethought.errors import CachePositionMismatchError
from forethought.sampling.hidden_states import HiddenStates
from forethought.tier import SessionOpen, SpeculateRound

_MIN_ROWS = 64
"""Room for inputs to begin with; doubled whenever it is too small."""
_KEPT_PART = 4
"""Of the longest sequence, where it begins anew: little, since all of it is computed at once."""


class FeatureInputs:
    """The hidden states that go in at each place of a draft's sequence.

    Args:
        size: of a hidden state.
    """

    def __init__(self, size: int) -> None:
        self._rows = torch.zeros(_MIN_ROWS, size, dtype=torch.float16)

    def inputs(self, start: int, end: int) -> torch.Tensor:
        return self._rows[start:end]

    def num_wanted(self, start: int, end: int, num_logits: int) -> int:  # noqa: ARG002
        """Its guess of the hidden state at each place that is scored."""
        return num_logits

    def take(self, start: int, rows: torch.Tensor) -> None:
        """They go in at the places behind."""
        self.put(start + 1, rows)

    def put(self, start: int, rows: torch.Tensor) -> None:
        """[n, hidden], for the places [start, start + n)."""
        end = start + len(rows)
        while end > len(self._rows):
            self._rows = torch.cat((self._rows, torch.zeros_like(self._rows)))
        self._rows[start:end] = rows

    def drop(self, count: int, end: int) -> None:
        """Those at [count, end) move to the front."""
        self._rows[: end - count] = self._rows[count:end].clone()


class FeatureContext:
    """One session's. For the engine's thread alone, once the session is open.

    Args:
        opening: of the session.
        sequence: of the draft's engine, empty.
        model: the draft.
        max_len: longest sequence of the draft, tokens.
    """

    def __init__(
        self, opening: SessionOpen, sequence: CachedSequence, model: FeatureDecoder, max_len: int
    ) -> None:
        self._token_ids = list(opening.token_ids)  # committed
        self._seen: SeenTokens | None = None  # of them, where there is a penalty
        if opening.sampling.repetition_penalty != 1:
            self._seen = SeenTokens(model.vocab_size, "cpu")
            self._seen.add(self._token_ids)
        self._sequence = sequence
        self._inputs = FeatureInputs(model.hidden_size)
        self._max_len = max_len
        self._first = 0  # position of the first hidden state
        self._end = 0  # behind the last one; both 0 without any
        self._num_sure = 0  # places of the sequence that stand on what the target says
        sequence.states = self._inputs

    def seen_token_ids(self) -> torch.Tensor:
        """The distinct committed tokens, [m] long; for sessions with a penalty."""
        assert self._seen is not None
        return self._seen.token_ids

    def advance(self, request: SpeculateRound) -> bool:
        """Brings the sequence to the committed tokens of a round.

        Returns:
            Whether there are hidden states to draft from.

        Raises:
            CachePositionMismatchError: the round starts beyond the known tokens.
        """
        self._commit(request.position, request.committed_token_ids)
        if request.hidden_states is not None:
            self._add(request.hidden_states)
        last = request.position - 1
        if not self._first < last <= self._end:
            return False
        if last - self._first + request.num_speculative_tokens > self._max_len:
            self._begin_at(max(last - self._max_len // _KEPT_PART, self._first))
        start = self._first + 1 + self._num_sure
        self._sequence.forget(self._num_sure)
        self._sequence.commit(last - self._first, self._token_ids[start:])
        self._sequence.speculate(())
        self._num_sure = last - self._first
        return True

    def _commit(self, position: int, committed_token_ids: Sequence[int]) -> None:
        start = position - len(committed_token_ids)
        if not 0 <= start <= len(self._token_ids):
            raise CachePositionMismatchError(
                f"tokens for [{start}, {position}) where {len(self._token_ids)} are known"
            )
        known = self._token_ids[start:position]
        same = start + common_prefix_len(known, committed_token_ids)
        if self._seen is not None:
            self._seen.remove(self._token_ids[same:])
            self._seen.add(committed_token_ids[same - start :])
        self._token_ids[same:] = committed_token_ids[same - start :]
        self._forget(same, min(same, position - 1))

    def _add(self, states: HiddenStates) -> None:
        if not self._first <= states.first_position <= self._end or self._first == self._end:
            self._first, self._num_sure = states.first_position, 0
        place = states.first_position - self._first
        self._forget(states.first_position + 1, states.first_position)
        # Copied, since a message's bytes are not to be written, which torch takes amiss.
        self._inputs.put(place, torch.from_numpy(states.rows.astype(np.float16)))
        self._end = states.end
        if self._end - self._first > self._max_len:
            self._begin_at(self._end - self._max_len)  # more is never drafted from

    def _forget(self, token_position: int, state_position: int) -> None:
        """What tokens from one position on and hidden states from another one on have brought."""
        self._end = max(min(self._end, state_position), self._first)
        self._num_sure = max(min(self._num_sure, token_position - self._first - 1), 0)

    def _begin_at(self, position: int) -> None:
        """Forgets the hidden states before `position`, and with them the sequence."""
        self._inputs.drop(position - self._first, self._end - self._first)
        self._first, self._num_sure = position, 0
