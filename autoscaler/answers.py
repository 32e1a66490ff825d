"""What the processes of a deployment say of themselves, at a time and over a time.

Processes count from their start. What happened in a time is the difference of two answers of the
same process; one that was started anew in between is left out until it has answered twice.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from forethought.tier import EngineWork, OrchestratorLoad, PassCost, TierLoad

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """What one replica of a tier says."""

    load: TierLoad
    work: EngineWork
    pass_costs: tuple[PassCost, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What everybody said who answered, by address."""

    targets: Mapping[str, TierAnswer] = field(default_factory=dict)
    drafts: Mapping[str, TierAnswer] = field(default_factory=dict)
    orchestrators: Mapping[str, OrchestratorLoad] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TierPace:
    """What a tier did in some time."""

    busy: float  # engines at work on average
    tokens_per_s: float  # of an engine at work; 0 where none was
    num_refused_sessions: int
    num_standing_tokens: int
    """That waited at every look. A queue that is gone at times needs nobody who helps (CoDel:
    Nichols and Jacobson, ACM Queue 10(5), 2012)."""


@dataclass(frozen=True, slots=True)
class DraftDemandRate:
    """What orchestrators asked of the draft tier in some time."""

    wanted: float  # engines at work on average
    unserved: float  # of them, those that were not to be had
    drafted_per_round: float  # tokens


class History:
    """The answers of the last seconds.

    Args:
        window_s: over which rates are taken.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._answers: deque[tuple[float, Answers]] = deque()

    def add(self, now_s: float, answers: Answers) -> None:
        """Everybody was asked, and these answered."""
        self._answers.append((now_s, answers))
        while len(self._answers) > 2 and now_s - self._answers[1][0] >= self._window_s:
            self._answers.popleft()

    @property
    def targets(self) -> TierPace:
        """What the targets did."""
        return _tier_pace([each.targets for _, each in self._answers])

    @property
    def drafts(self) -> TierPace:
        """What the drafts did."""
        return _tier_pace([each.drafts for _, each in self._answers])

    @property
    def draft_demand(self) -> DraftDemandRate | None:
        """What was asked of the draft tier; None where no orchestrator has answered twice."""
        pairs = _pairs(
            [each.orchestrators for _, each in self._answers], lambda load: load.uptime_ns
        )
        if not pairs:
            return None
        wanted = unserved = 0.0
        for first, last in pairs:
            took_ns = last.uptime_ns - first.uptime_ns
            before, after = first.draft_demand, last.draft_demand
            wanted += (after.wanted_ns - before.wanted_ns) / took_ns
            unserved += (after.unserved_ns - before.unserved_ns) / took_ns
        num_rounds = sum(last.num_rounds - first.num_rounds for first, last in pairs)
        num_tokens = sum(last.num_draft_tokens - first.num_draft_tokens for first, last in pairs)
        return DraftDemandRate(wanted, unserved, num_tokens / max(num_rounds, 1))


def _tier_pace(answers: list[Mapping[str, TierAnswer]]) -> TierPace:
    pairs = [
        (first.work, last.work)
        for first, last in _pairs(answers, lambda replica: replica.work.uptime_ns)
    ]
    busy_ns = sum(last.busy_ns - first.busy_ns for first, last in pairs)
    num_tokens = sum(last.num_computed_tokens - first.num_computed_tokens for first, last in pairs)
    return TierPace(
        sum(
            (last.busy_ns - first.busy_ns) / (last.uptime_ns - first.uptime_ns)
            for first, last in pairs
        ),
        num_tokens / busy_ns * 1e9 if busy_ns else 0.0,
        sum(last.num_refused_sessions - first.num_refused_sessions for first, last in pairs),
        min(
            (sum(each.work.num_waiting_tokens for each in look.values()) for look in answers),
            default=0,
        ),
    )


def _pairs(answers: list[Mapping[str, T]], uptime_ns: Callable[[T], int]) -> list[tuple[T, T]]:
    """The first and the last answer of each process that has given the last one, and another."""
    pairs = []
    for address, last in (answers[-1] if answers else {}).items():
        first = last
        for earlier in reversed(answers[:-1]):
            if address in earlier:
                if uptime_ns(earlier[address]) >= uptime_ns(first):
                    break  # another process
                first = earlier[address]
        if first is not last:
            pairs.append((first, last))
    return pairs
