"""Drafts that are looked up in what a request predicts of its output (Predicted Outputs).

Who has a file edited knows most of the answer before: the file. Where the output's end occurs in
the prediction, the draft is what follows there. It costs nobody's time, and the session draws as it
would have: whatever the prediction says, the text is distributed as the target's.

A prediction speaks for its own session alone. Its rounds teach the policy nothing, and the policy
is not asked while the prediction has something to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
import numpy.typing as npt

from forethought.generation import PREDICTION
from forethought.sampling.types import Draft, certain_guess
from forethought.tier import RoundTimings
from orchestrator.loop.decode_loop import Proposer, SpeculationPolicy
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session

_MAX_MATCH = 32
"""Longest run of tokens that is looked up."""
_MIN_MATCH = 2
"""Shortest run, but for an output of one token: single tokens occur anywhere."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an output is expected to repeat."""

    token_ids: npt.NDArray[np.uint32]  # [n]
    num_prompt_tokens: int  # of the session
    max_guesses: int  # in a round

    def guesses(self, token_ids: Sequence[int]) -> list[int]:
        """How a session may go on, whose prompt and output these tokens are.

        They follow the longest run of tokens at the output's end that the prediction has; of equal
        ones the place where the output would be if it were the prediction. There are no more
        guesses than tokens that match, so that a wrong place costs little, unless all of the output
        matches.
        """
        num_output = len(token_ids) - self.num_prompt_tokens
        tail = token_ids[-min(num_output, _MAX_MATCH) :] if num_output else ()
        length, places = _match(self.token_ids, tail)
        if length < min(_MIN_MATCH, num_output):
            return []
        place = int(places[np.abs(places - num_output).argmin()])
        is_whole = length in {num_output, _MAX_MATCH}
        end = place + (self.max_guesses if is_whole else min(self.max_guesses, length))
        guesses: list[int] = self.token_ids[place:end].tolist()
        return guesses


def _match(
    prediction: npt.NDArray[np.uint32], tail: Sequence[int]
) -> tuple[int, npt.NDArray[np.int64]]:
    """Length of the longest run at the end of `tail` that occurs, and where its occurrences end."""
    matched = np.ones(len(prediction) + 1, bool)  # [n + 1 - length]: a run begins here
    length = 0
    while length < min(len(tail), len(prediction)):
        longer = matched[1:] & (prediction[: len(prediction) - length] == tail[-1 - length])
        if not longer.any():
            break
        matched, length = longer, length + 1
    return length, np.flatnonzero(matched) + length


class PredictedOutput:
    """Proposer and policy of one session: the prediction where it says something, else others.

    Args:
        prediction: of the session's output.
        proposer: asked where the prediction says nothing.
        policy: chooses how much is asked of that proposer.
    """

    def __init__(
        self, prediction: Prediction, proposer: Proposer, policy: SpeculationPolicy
    ) -> None:
        self._prediction = prediction
        self._proposer = proposer
        self._policy = policy
        self._guesses: list[int] = []  # for the round under way
        self._looked_up_ns = 0

    @property
    def expects_speculation(self) -> bool:
        """Of the other proposer."""
        return self._policy.expects_speculation

    def ask(self, session: Session) -> Ask:
        started_ns = perf_counter_ns()
        # The first round computes the prompt, and its token comes soonest without a draft.
        self._guesses = self._prediction.guesses(session.token_ids) if session.round else []
        self._looked_up_ns = perf_counter_ns() - started_ns
        return Ask(len(self._guesses)) if self._guesses else self._policy.ask(session)

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        if not self._guesses:
            return await self._proposer.propose(session, ask)
        guesses = self._guesses[: ask.num_speculative_tokens]
        tokens = tuple(certain_guess(token_id, session.mode) for token_id in guesses)
        timings = RoundTimings(forward_ns=self._looked_up_ns, total_ns=self._looked_up_ns)
        return Drafted(Draft(tokens, PREDICTION), timings)

    def learn(self, judged: Round) -> None:
        if not self._guesses:
            self._policy.learn(judged)

    def close(self) -> None:
        self._policy.close()
