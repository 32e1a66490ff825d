"""How many tokens to draft in a round (K).

Speculation trades time for tokens: a longer draft takes longer to make and to verify, and brings
more tokens if it is accepted. The adaptive policy asks for the K that promises most tokens a second
to all sessions (`governor.py`). Under load, where each further token in a pass costs, and with a
draft that guesses badly, that is 0: plain decoding.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from forethought.sampling.types import VerificationMode
from orchestrator.loop.round import Ask, Round
from orchestrator.loop.session import Session
from orchestrator.metrics.rounds import RoundCounts
from orchestrator.policy.acceptance import Acceptance
from orchestrator.policy.demand import DemandMeter
from orchestrator.policy.governor import Choice, Governor


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """The same K in every round but the first.

    The first round computes the whole prompt. A draft before it would delay the first token until
    the draft tier has done the same; without, both tiers compute it at once.
    """

    k: int

    @property
    def expects_speculation(self) -> bool:
        return self.k > 0

    def ask(self, session: Session) -> Ask:
        return Ask(self.k if session.round else 0, next_is_plain=not self.k)

    def learn(self, judged: Round) -> None:
        """Nothing changes it."""

    def close(self) -> None:
        """Nothing is held."""


class Experience:
    """What the sessions of a deployment have learned together.

    Args:
        governor: by which they choose.
        lookups: names of the proposers of this process.
    """

    def __init__(self, governor: Governor, lookups: Collection[str] = ()) -> None:
        self.governor = governor
        self.demand = DemandMeter(governor, lookups)
        self.rounds = RoundCounts()
        """What became of all rounds."""
        self._acceptance = defaultdict[tuple[VerificationMode, bool], Acceptance](Acceptance)

    def acceptance(self, session: Session) -> Acceptance:
        """What became of the drafts of sessions like this one."""
        return self._acceptance[session.mode, session.sampling.is_greedy]


class AdaptivePolicy:
    """Chooses for a session the K that promises the most tokens a second, by what all have seen."""

    def __init__(self, experience: Experience, session: Session) -> None:
        self._governor = governor = experience.governor
        self._shared = experience.acceptance(session)
        self._acceptance = Acceptance(self._shared)
        self._expected = self._acceptance.expect(governor.max_k)
        self._choice: Choice | None = None  # for the round under way
        self.expects_speculation = governor.max_k > 0 and governor.join(self, self._expected)

    def ask(self, session: Session) -> Ask:
        if not session.round or not self._governor.max_k:  # the prompt, as with `FixedPolicy`
            return Ask(0, next_is_plain=not self.expects_speculation)
        self._choice = choice = self._governor.choose(self, self._expected)
        return Ask(choice.k, choice.timeout_s) if choice.k else Ask(0, next_is_plain=True)

    def learn(self, judged: Round) -> None:
        choice, self._choice = self._choice, None
        if choice is not None:  # else most of it was the prompt
            self._governor.learn(choice, judged)
        num_asked = judged.ask.num_speculative_tokens
        if num_asked and not judged.drafted.has_failed:
            num_accepted = judged.outcome.num_accepted_tokens
            for acceptance in (self._shared, self._acceptance):
                acceptance.observe(num_asked, len(judged.draft), num_accepted)
            self._expected = self._acceptance.expect(self._governor.max_k)

    def close(self) -> None:
        self._governor.leave(self)
