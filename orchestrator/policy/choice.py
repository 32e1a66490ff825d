"""How many tokens to draft in a round (K).

Speculation trades time for tokens: a longer draft takes longer to make and to verify, and brings
more tokens if it is accepted. The adaptive policy picks the K that promises most tokens a second:

    E(K) / (draft(K) + verify(K))

E comes from `acceptance.py`, the times from `round_times.py`; `governor.py` weighs them for all
sessions of a deployment. K = 0 is plain decoding, one candidate of several: under load, where each
further token in a pass costs, and with a draft that guesses badly, it wins.
"""

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

    The first round computes the whole prompt. Waiting for a draft before it would delay the first
    token by the time that the draft tier takes for the same prompt; without, both tiers compute it
    at once.
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
        self._acceptance: dict[tuple[VerificationMode, bool], Acceptance] = {}

    def acceptance(self, session: Session) -> Acceptance:
        """What became of the drafts of sessions like this one."""
        kind = (session.mode, session.sampling.is_greedy)
        return self._acceptance.setdefault(kind, Acceptance())


class AdaptivePolicy:
    """Chooses the K that promises the most tokens a second.

    Args:
        experience: of the deployment.
        session: whose rounds to choose for.
    """

    def __init__(self, experience: Experience, session: Session) -> None:
        self._governor = experience.governor
        self._shared = experience.acceptance(session)
        self._acceptance = Acceptance(self._shared)
        self._expected = self._acceptance.expect(self._governor.max_k)
        self._choice: Choice | None = None  # for the round under way
        self.expects_speculation = self._governor.max_k > 0 and self._governor.join(
            self, self._expected
        )

    def ask(self, session: Session) -> Ask:
        # The first round computes the prompt, as with `FixedPolicy`.
        if not session.round or not self._governor.max_k:
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
