"""How long a round takes if all sessions of a deployment ask for drafts of the same length.

A round waits for its draft, and for the pass that verifies it. Both are profiled when tiers start,
and corrected by what clocks say since (`clocks.py`).
"""

from collections.abc import Sequence

from forethought.pass_profile import PassProfile
from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.clocks import Clocks

_UNMEASURED = (PassCost(1, 1_000_000), PassCost(31, 2_000_000))
"""Profile of a tier that has not said what it measured."""


class RoundTimes:
    """Times of rounds, seconds.

    Args:
        target_costs: of the target's passes, as it measured them.
        draft_costs: of the draft's; () where none is known, or it needs none.
    """

    def __init__(
        self, target_costs: Sequence[PassCost] = (), draft_costs: tuple[PassCost, ...] = ()
    ) -> None:
        self._target = PassProfile(target_costs or _UNMEASURED)
        self._draft_costs, self._draft = draft_costs, PassProfile(draft_costs)
        self._verifying, self._drafting = Clocks(), Clocks()
        self.drafts_were_seen = False
        """Whether a draft has come, or was waited for."""
        self.batch_size = 1.0
        """Sessions that share a pass of the target, those of other orchestrators too."""
        self.num_targets = 1
        """Replicas of the target that sessions are spread over."""

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier, or another replica of it, has said how long its passes take."""
        if costs and costs != self._draft_costs:
            self._draft_costs, self._draft = costs, PassProfile(costs)

    @property
    def drafts_are_computed(self) -> bool:
        """Whether the draft tier runs a model, as far as is known."""
        return bool(self._draft_costs)

    def num_plain(self, num_sessions: int) -> float:
        """Passes without drafts that have been seen at the load of so many sessions."""
        return self._verifying.num_plain(num_sessions)

    def learn(self, judged: Round, num_sessions: int, *, is_first_draft: bool) -> None:
        """Takes times from a round.

        Args:
            judged: the round.
            num_sessions: of the deployment when it began.
            is_first_draft: its session asks for its first one, so that the draft tier has the
                prompt to compute.
        """
        k, timings = judged.ask.num_speculative_tokens, judged.measured.timings
        self.batch_size += (timings.batch_size - self.batch_size) / 2
        weight = 1 / max(timings.batch_size, 1)
        if timings.num_batch_tokens:
            nanoseconds = judged.verification_ns + judged.rejection_ns
            if not self.drafts_are_computed:  # a lookup takes next to no time
                nanoseconds += judged.speculation_ns
            profiled_s = self._target(timings.num_batch_tokens)
            self._verifying.observe(num_sessions, k, profiled_s, nanoseconds / 1e9, weight)
        if k and not is_first_draft and (judged.was_late or not judged.drafted.has_failed):
            self.drafts_were_seen = True
            profiled_s = k * self._draft(self.batch_size)
            if profiled_s and not judged.drafted.has_failed:
                seconds = judged.speculation_ns / 1e9
                self._drafting.observe(num_sessions, k, profiled_s, seconds, weight)

    def draft_s(self, k: int, num_sessions: int) -> float:
        """Until a draft comes, where so many sessions ask for K tokens each."""
        profiled_s = k * self._draft(self.num_alike(num_sessions))
        return profiled_s * self._drafting.ratio(num_sessions, k)

    def round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """A round in which so many sessions ask for K tokens each."""
        draft_s = self.draft_s(k, num_sessions) if k else 0.0
        return draft_s + self._verification_s(k, expected, num_sessions)

    def idle_round_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """The same with a draft tier that makes each draft as if there were no other."""
        return self.idle_draft_s(k) + self._verification_s(k, expected, num_sessions)

    def idle_draft_s(self, k: int, num_sessions: int = 1) -> float:
        """Time that an idle draft tier works for so many sessions, which share its passes."""
        return k * self._draft(num_sessions)

    def num_alike(self, num_sessions: int) -> float:
        """Sessions that share a pass. Those that have just come are not in any pass yet."""
        return max(self.batch_size, num_sessions / self.num_targets, 1.0)

    def _verification_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        lengths = expected.lengths
        others = (self.num_alike(num_sessions) - 1) * (1 + lengths[k])
        pass_s = self._target(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (self._target(others + 1 + length) - pass_s)
        return pass_s * self._verifying.ratio(num_sessions, k)
