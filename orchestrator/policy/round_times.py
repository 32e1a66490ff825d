"""How long a round takes if all sessions of a deployment ask for drafts of the same length.

A round waits for its draft, and for the pass that verifies it. Tiers measure both when they start.
They do not know what happens since: drafts that slow passes down on a shared processor, waiting,
evidence that travels. So the clock is compared with what was measured, at each load and each K
apart, and old rounds fade. A K that was never tried is between its neighbours; a load that was
never seen is like the nearest one that was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forethought.pass_profile import PassProfile
from forethought.tier import PassCost
from orchestrator.loop.round import Round
from orchestrator.policy.acceptance import MEMORY, Expectation

SURPRISE = 4.0
"""A single observation counts as so many times the usual at most, and as that part at least."""
_UNMEASURED = (PassCost(1, 1_000_000), PassCost(31, 2_000_000))
"""Profile of a tier that has not said what it measured."""


def load_of(num_sessions: int) -> int:
    """Loads that are taken to be alike: 0 for 1 session, 1 for 2, 2 for up to 4, 3 for up to 8."""
    return max(num_sessions - 1, 0).bit_length()


@dataclass(slots=True)
class _Seen:
    """How much longer than measured it took, of late."""

    num: float = 0.0
    measured_s: float = 0.0  # of all of them
    ratio: float = 1.0

    def observe(self, seconds: float, measured_s: float, weight: float) -> None:
        change = seconds / measured_s / self.ratio
        if self.num:  # the first one may differ by any factor
            change = min(max(change, 1 / SURPRISE), SURPRISE)
        fading = math.exp(-weight / MEMORY)
        self.num = self.num * fading + weight
        self.measured_s = self.measured_s * fading + weight * measured_s
        self.ratio *= change ** (weight * measured_s / self.measured_s)


class Clocks:
    """How much longer something takes than was measured."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, _Seen]] = {}  # by load, then by K

    def observe(
        self, num_sessions: int, k: int, seconds: float, measured_s: float, weight: float = 1.0
    ) -> None:
        """With so many sessions, and K tokens asked of a draft, it took so long.

        Of n sessions that share a pass each reports it, with 1/n as weight.
        """
        row = self._rows.setdefault(load_of(num_sessions), {})
        row.setdefault(k, _Seen()).observe(seconds, measured_s, weight)

    def num_plain(self, num_sessions: int) -> float:
        """Passes without drafts that have been seen at a load."""
        return self._rows.get(load_of(num_sessions), {}).get(0, _Seen()).num

    def ratio(self, num_sessions: int, k: int) -> float:
        """What to multiply the measured time with."""
        if not self._rows:
            return 1.0
        load = load_of(num_sessions)
        row = self._rows[min(self._rows, key=lambda each: abs(each - load))]
        ks = sorted(row)
        return float(np.interp(k, ks, [row[each].ratio for each in ks]))


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
        self._drafting, self.verifying = Clocks(), Clocks()
        self.num_drafts = 0.0
        """Rounds whose drafts have come, or were waited for."""
        self.batch_size = 1
        """Sessions that share a pass of the target, those of other orchestrators too."""
        self.num_targets = 1
        """Replicas of the target that sessions are spread over."""

    def know_draft(self, costs: tuple[PassCost, ...]) -> None:
        """The draft tier, or another replica of it, has said how long its passes take."""
        if costs and costs != self._draft_costs:
            self._draft_costs, self._draft = costs, PassProfile(costs)

    def learn(self, judged: Round, num_sessions: int) -> None:
        """Takes times from a round, which began with so many sessions."""
        k, timings = judged.ask.num_speculative_tokens, judged.measured.timings
        drafting_s = judged.speculation_ns / 1e9
        verifying_s = (judged.verification_ns + judged.rejection_ns) / 1e9
        if not self._draft_costs:
            verifying_s += drafting_s  # a lookup takes next to no time
        self.batch_size = max(timings.batch_size, 1)
        weight = 1 / self.batch_size
        if timings.num_batch_tokens:
            measured_s = self._target(timings.num_batch_tokens)
            self.verifying.observe(num_sessions, k, verifying_s, measured_s, weight)
        if k and (judged.was_late or not judged.drafted.has_failed):
            self.num_drafts += weight
            if self._draft_costs and not judged.drafted.has_failed:
                measured_s = self.idle_draft_s(k, self.batch_size)
                self._drafting.observe(num_sessions, k, drafting_s, measured_s, weight)

    def idle_draft_s(self, k: int, num_sessions: float = 1) -> float:
        """Until a draft tier with nothing else to do has made drafts for so many sessions."""
        return k * self._draft(num_sessions)

    def draft_s(self, k: int, num_sessions: int) -> float:
        """Until a draft comes, where so many sessions ask for K tokens each."""
        measured_s = self.idle_draft_s(k, self.num_alike(num_sessions))
        return measured_s and measured_s * self._drafting.ratio(num_sessions, k)

    def verification_s(self, k: int, expected: Expectation, num_sessions: int) -> float:
        """The rest of a round in which so many sessions ask for K tokens each."""
        lengths = expected.lengths
        others = (self.num_alike(num_sessions) - 1) * (1 + lengths[k])
        pass_s = self._target(others + 1)
        if k and lengths[1] > 0:
            # A proposer that looks texts up drafts all that it is asked for, or nothing.
            length = lengths[k] / lengths[1]
            pass_s += lengths[1] * (self._target(others + 1 + length) - pass_s)
        return pass_s * self.verifying.ratio(num_sessions, k)

    def num_alike(self, num_sessions: int) -> float:
        """Sessions that share a pass. Those that have just come are not in any pass yet."""
        return max(self.batch_size, num_sessions / self.num_targets)
