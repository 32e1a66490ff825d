"""How much longer something takes than its profile says, by load and K.

A profile is what a tier has measured when it started. It does not know what happens since: drafts
that slow passes down on a shared processor, waiting, evidence that travels. So the clock is
compared with it, at each load and each K apart, and old rounds fade. A K that was never tried is
between its neighbours; a load that was never seen is like the nearest one that was.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from orchestrator.policy.acceptance import MEMORY

SURPRISE = 4.0
"""A single observation counts as so many times the usual at most, and as that part at least."""


def load_of(num_sessions: int) -> int:
    """Loads that are taken to be alike: 0 for 1 session, 1 for 2, 2 for up to 4, 3 for up to 8."""
    return max(num_sessions - 1, 0).bit_length()


@dataclass(slots=True)
class _Seen:
    """Rounds of one K at one load; old ones fade."""

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


class Clocks:
    """Times of one kind."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, _Seen]] = {}  # by load, then by K

    def observe(
        self, num_sessions: int, k: int, profiled_s: float, seconds: float, weight: float = 1.0
    ) -> None:
        """Something took so long, with K tokens asked of a draft.

        Args:
            num_sessions: at that time.
            k: see above.
            profiled_s: what the profile says of it.
            seconds: what the clock says.
            weight: share of a pass; of n sessions that share one, each reports it.
        """
        row = self._rows.setdefault(load_of(num_sessions), {})
        row.setdefault(k, _Seen()).observe(profiled_s, seconds, weight)

    def num_plain(self, num_sessions: int) -> float:
        """Passes without drafts that have been seen at a load."""
        return self._rows.get(load_of(num_sessions), {}).get(0, _Seen()).num

    def ratio(self, num_sessions: int, k: int) -> float:
        """What to multiply the profile with."""
        load = load_of(num_sessions)
        plain = self._nearest(load, [each for each, row in self._rows.items() if 0 in row])
        drafted = self._nearest(load, [each for each, row in self._rows.items() if any(row)])
        row = drafted if k and drafted else plain
        if not k or not row:
            return row[0].ratio if row else 1.0
        ks = sorted(row)
        ratio = float(np.interp(k, ks, [row[each].ratio for each in ks]))
        # What drafts do to passes at another load, they do to those of this one.
        return ratio * plain[0].ratio / row[0].ratio if plain and 0 in row else ratio

    def _nearest(self, load: int, loads: Collection[int]) -> dict[int, _Seen]:
        return self._rows[min(loads, key=lambda each: abs(each - load))] if loads else {}
