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
        self._draft_costs: tuple[PassCost, ...] = ()
        self._draft: PassProfile | None = None
        self._verifying, self._drafting = Clocks(), Clocks()
        self.drafts_were_seen = False
        """Whether a draft has come, or was waited for, since the draft tier's profile is known."""
        self.batch_size = 1.0
        """Sessions that share a pass of the target, those of other orchestrators too."""
        self.num_targets = 1
        """Replicas of the target that sessions are spread over."""
        self.know_draft(draft_costs)

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier has said how long its passes take."""
        if costs and costs is not self._draft_costs and costs != self._draft_costs:
            self._draft_costs = costs
            self._draft = PassProfile(costs)
            self._drafting = Clocks()
            self.drafts_were_seen = False

    @property
    def drafts_are_computed(self) -> bool:
        """Whether the draft tier runs a model, as far as is known."""
        return self._draft is not None

    def knows_plain(self, load: int, num_rounds: float) -> bool:
        """Whether so many plain rounds have been seen at a load."""
        return self._verifying.num_plain(load) > num_rounds - 1e-6

    def knows_drafts(self, load: int) -> bool:
        """Whether rounds with drafts have been seen at a load, or at a greater one."""
        return self._verifying.has_drafts(load)

    def forget_drafts(self, load: int) -> None:
        """What rounds with drafts took at a load says little of those to come."""
        self._verifying.age(load)
        self._drafting.age(load)

    def learn(self, judged: Round, load: int, *, is_first_draft: bool, num_rounds: int) -> None:
        """Takes times from a round.

        Args:
            judged: the round.
            load: bucket of the load.
            is_first_draft: its session asks for its first one, so that the draft tier has the
                prompt to compute.
            num_rounds: rounds of all sessions that it stands for.
        """
        k, timings = judged.ask.num_speculative_tokens, judged.measured.timings
        self.batch_size += (timings.batch_size - self.batch_size) / 2
        weight = min(num_rounds / max(timings.batch_size, 1), 1.0)
        if timings.num_batch_tokens:
            nanoseconds = judged.verification_ns + judged.rejection_ns
            if self._draft is None:  # a lookup takes next to no time
                nanoseconds += judged.speculation_ns
            profiled_s = self._target(timings.num_batch_tokens)
            self._verifying.observe(load, k, profiled_s, nanoseconds / 1e9, weight)
        if not k or is_first_draft:
            return
        drafted_s, profiled_s = (
            judged.speculation_ns / 1e9,
            self._profiled_draft_s(k, self.batch_size),
        )
        self.drafts_were_seen = self.drafts_were_seen or judged.was_late
        if not judged.drafted.has_failed:
            self.drafts_were_seen = True
            if profiled_s:
                self._drafting.observe(load, k, profiled_s, drafted_s, weight)

    def draft_s(self, load: int, k: int, num_sessions: int) -> float:
        """Until a draft comes, where so many sessions ask for K tokens each."""
        ratio = self._drafting.ratio(load, k)
        return self._profiled_draft_s(k, self.num_alike(num_sessions)) * ratio

    def round_s(self, load: int, k: int, expected: Expectation, num_sessions: int) -> float:
        """A round in which so many sessions ask for K tokens each."""
        draft_s = self.draft_s(load, k, num_sessions) if k else 0.0
        return draft_s + self._verification_s(load, k, expected, num_sessions)

    def idle_round_s(self, load: int, k: int, expected: Expectation, num_sessions: int) -> float:
        """The same with a draft tier that makes each draft as if there were no other."""
        return self._profiled_draft_s(k, 1.0) + self._verification_s(
            load, k, expected, num_sessions
        )

    def engine_s(self, k: int, num_sessions: int) -> float:
        """Time that an idle engine of the draft tier works for so many sessions, which share its
        passes."""
        return k * self._draft(num_sessions) if self._draft else 0.0

    def num_alike(self, num_sessions: int) -> float:
        """Sessions that share a pass. Those that have just come are not in any pass yet."""
        return max(self.batch_size, num_sessions / self.num_targets, 1.0)

    def _profiled_draft_s(self, k: int, batch_size: float) -> float:
        return k * self._draft(batch_size) if self._draft else 0.0

    def _verification_s(self, load: int, k: int, expected: Expectation, num_sessions: int) -> float:
        lengths, num_alike = expected.lengths, self.num_alike(num_sessions)
        others = (num_alike - 1) * (1 + lengths[k])
        pass_s = self._target(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (self._target(others + 1 + length) - pass_s)
        return pass_s * self._verifying.ratio(load, k)
