"""Hidden states that go with a sequence: into its passes, out of them, or both.

Nobody pays who has no use for them: a pass without any is the pass that it was before.
"""

from typing import Protocol

import numpy as np
import torch

from forethought.sampling.hidden_states import HiddenStates, joined

_LARGEST = float(np.finfo(np.float16).max)

MAX_BYTES = 8 * 2**20
"""Of what is kept of a session: half of the largest message. The latest positions stay."""


class SequenceStates(Protocol):
    """What a sequence's passes take in and give out besides tokens and logits."""

    def inputs(self, start: int, end: int) -> torch.Tensor | None:
        """[end - start, hidden] to go in with the tokens at these places; None: tokens suffice."""
        ...

    def num_wanted(self, start: int, end: int, num_logits: int) -> int:
        """How many of the tokens at [start, end), counted from the end, are to give out their
        final hidden states.

        Args:
            start: of the pass's tokens.
            end: behind them.
            num_logits: how many of them are scored.
        """
        ...

    def take(self, start: int, rows: torch.Tensor) -> None:
        """What a pass gives out: [n, hidden] final hidden states at [start, start + n)."""
        ...


class HiddenTail:
    """Keeps the final hidden states of a sequence's latest tokens until a round hands them over.

    Args:
        first_position: of the tokens before it none are kept.
    """

    def __init__(self, first_position: int) -> None:
        self._first_position = first_position
        self._states: HiddenStates | None = None

    def inputs(self, start: int, end: int) -> None:  # noqa: ARG002
        """Nothing: these only come out."""
        return

    def num_wanted(self, start: int, end: int, num_logits: int) -> int:  # noqa: ARG002
        return max(end - max(start, self._first_position), 0)

    def take(self, start: int, rows: torch.Tensor) -> None:
        # What half precision cannot hold is a number all the same.
        halves = rows.float().clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
        states = joined(self._states, HiddenStates(start, halves))
        assert states is not None
        num_kept = max(MAX_BYTES // (2 * states.size), 1)
        self._states = states.within(states.end - num_kept, states.end)

    def expect(self, position: int) -> None:
        """A round begins with the token at `position`: at the latest from there on all are kept."""
        self._first_position = min(self._first_position, position)

    def hand_over(self, next_position: int) -> HiddenStates | None:
        """All that was kept. From now on, those before `next_position` are not kept any more."""
        states, self._states = self._states, None
        self._first_position = next_position
        return states
