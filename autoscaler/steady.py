"""From needs that come and go to a number of replicas that does not flap.

More replicas are wanted at once. Fewer only when so few would have done all the time for some
minutes: a replica takes as long to come as it was hasty to go. What is still coming up is not asked
for again, since a need is that of the whole tier.
"""

import math
from collections import deque
from dataclasses import dataclass

_TOLERANCE = 0.1
"""Of a replica, that the others do besides."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which a tier is scaled."""

    least: int
    most: int


class Steady:
    """The replicas that a tier should have.

    Args:
        limits: that hold whatever is needed.
        down_after_s: for which fewer must have done.
    """

    def __init__(self, limits: Limits, down_after_s: float) -> None:
        self._limits = limits
        self._down_after_s = down_after_s
        self._began_s: float | None = None
        self._wanted: deque[tuple[float, int]] = deque()  # falling; the first is the most

    def update(self, now_s: float, needed: float, current: int) -> int:
        """The replicas to have now.

        Args:
            now_s: seconds of any clock that does not jump.
            needed: replicas, not rounded.
            current: that the tier has, or was told to have. Until this has been asked for long
                enough to know better, it is not told to have fewer.
        """
        if self._began_s is None:
            self._began_s = now_s
        wanted = self._limit(needed)
        while self._wanted and self._wanted[-1][1] <= wanted:
            self._wanted.pop()
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - self._down_after_s:
            self._wanted.popleft()
        most = self._wanted[0][1]
        if not self.is_settled(now_s):
            most = max(most, min(current, self._limits.most))
        return most

    def is_settled(self, now_s: float) -> bool:
        """Whether needs are known for long enough to have fewer replicas."""
        return self._began_s is not None and now_s - self._began_s >= self._down_after_s

    def _limit(self, needed: float) -> int:
        wanted = math.ceil(needed - _TOLERANCE) if needed > 1 else math.ceil(needed)
        return min(max(wanted, self._limits.least), self._limits.most)
