"""How much longer something takes than its profile says, by load and K.

A profile is what a tier has measured when it started. It does not know what happens since: drafts
that slow passes down on a shared processor, waiting, evidence that travels. So the clock is
compared with it, at each load and each K apart, and old rounds fade. A K that was never tried is
between its neighbours; a load that was never seen is like the nearest one that was.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.policy.acceptance import MEMORY

SURPRISE = 4.0
"""A single observation counts as so many times the usual at most, and as that part at least."""


@dataclass(slots=True)
class _Seen:
    """Rounds of one K at one load."""

    num: float = 0.0
    seconds: float = 0.0
    profiled_s: float = 0.0

    @property
    def ratio(self) -> float:
        return self.seconds / self.profiled_s

    def observe(self, profiled_s: float, seconds: float, weight: float) -> None:
        if self.num >= 2:  # before that, the profile may be wrong by any factor
            usual_s = self.ratio * profiled_s
            seconds = min(max(seconds, usual_s / SURPRISE), usual_s * SURPRISE)
        fading = math.exp(-weight / MEMORY)
        self.num = self.num * fading + weight
        self.seconds = self.seconds * fading + weight * seconds
        self.profiled_s = self.profiled_s * fading + weight * profiled_s

    def age(self) -> None:
        """Leaves it the weight of one observation."""
        if self.num > 1:
            self.seconds /= self.num
            self.profiled_s /= self.num
            self.num = 1.0


class Clocks:
    """Times of one kind."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, _Seen]] = {}  # by load, then by K

    def observe(
        self, load: int, k: int, profiled_s: float, seconds: float, weight: float = 1.0
    ) -> None:
        """Something took so long.

        Args:
            load: bucket of the load at which it was.
            k: tokens asked of a draft.
            profiled_s: what the profile says of it.
            seconds: what the clock says.
            weight: share of a pass; of n sessions that share one, each reports it.
        """
        self._rows.setdefault(load, {}).setdefault(k, _Seen()).observe(profiled_s, seconds, weight)

    def num_plain(self, load: int) -> float:
        """Passes without drafts that have been seen at a load."""
        seen = self._rows.get(load, {}).get(0)
        return seen.num if seen else 0.0

    def has_drafts(self, load: int) -> bool:
        """Whether rounds with drafts have been seen at a load, or at a greater one."""
        return any(each >= load and any(row) for each, row in self._rows.items())

    def age(self, load: int) -> None:
        """Rounds with drafts at a load say little of those to come."""
        for k, seen in self._rows.get(load, {}).items():
            if k:
                seen.age()

    def ratio(self, load: int, k: int) -> float:
        """What to multiply the profile with."""
        plain = self._nearest(load, lambda row: 0 in row)
        row = self._rows.get(load, {}) if k else plain
        if k and not any(row):  # no drafts were seen here
            row = self._nearest(load, any)
            if plain and 0 in row:
                return plain[0].ratio * _ratio(row, k) / row[0].ratio
        return _ratio(row or plain, k)

    def _nearest(
        self, load: int, is_wanted: Callable[[dict[int, _Seen]], bool]
    ) -> dict[int, _Seen]:
        loads = [each for each, row in self._rows.items() if is_wanted(row)]
        return self._rows[min(loads, key=lambda each: abs(each - load))] if loads else {}


def _ratio(row: dict[int, _Seen], k: int) -> float:
    seen = row.get(k)
    others = [each for each in row if each != k]
    if seen is None and not others:
        return 1.0
    if seen is not None and (not k or not others):
        return seen.ratio
    below = max((each for each in others if each < k), default=min(others))
    above = min((each for each in others if each > k), default=max(others))
    share = (k - below) / (above - below) if above > below else 0.0
    between = row[below].ratio + share * (row[above].ratio - row[below].ratio)
    if seen is None:
        return between
    if not 1 / SURPRISE < seen.ratio / between < SURPRISE:
        return seen.ratio  # the profile is wrong
    weight = seen.num**2  # one observation is noisy, four are not
    return (weight * seen.ratio + between) / (weight + 1)
