"""What the adaptive policy is held to, and whether it holds.

Speculation must never make a deployment clearly slower than plain decoding, however bad the draft
and however high the load; and where it pays most, choosing K must cost little against knowing it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from forethought.bench.policy_points import ADAPTIVE, GOOD, Point

LEAST_OVER_OFF = 0.97
LEAST_OVER_BEST_FIXED = 0.95


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio that must not be lower, and the lowest that was measured."""

    name: str
    least: float
    measured: float | None  # None: nothing that it is about was measured
    where: str = ""  # the point of that ratio
    num_missed: int = 0  # points below `least`

    @property
    def holds(self) -> bool | None:
        """Whether it was reached everywhere; None if it was not measured."""
        return None if self.measured is None else self.measured >= self.least

    def __str__(self) -> str:
        if self.measured is None:
            return f"not measured: {self.name}"
        verdict = "holds" if self.holds else f"missed {self.num_missed} times"
        return f"{verdict}: {self.name}; at least {self.measured:.3f}, {self.where}"


def judge_goals(points: Sequence[Point]) -> list[Goal]:
    """Both goals, as measured."""
    return [
        _goal(
            f"adaptive >= {LEAST_OVER_OFF} x off at every point",
            LEAST_OVER_OFF,
            [(point.over_off(ADAPTIVE), _place(point)) for point in points],
        ),
        _goal(
            f"adaptive >= {LEAST_OVER_BEST_FIXED} x the best fixed K with the good draft, "
            "one request at a time",
            LEAST_OVER_BEST_FIXED,
            [
                (ratio, f"of K = {point.best_fixed}")
                for point in points
                if (point.draft, point.concurrency) == (GOOD, 1)
                if (ratio := point.over_best_fixed) is not None
            ],
        ),
    ]


def _place(point: Point) -> str:
    return f"with the {point.draft} draft at {point.concurrency}"


def _goal(name: str, least: float, ratios: Sequence[tuple[float, str]]) -> Goal:
    if not ratios:
        return Goal(name, least, None)
    lowest, where = min(ratios)
    return Goal(name, least, lowest, where, sum(ratio < least for ratio, _ in ratios))
