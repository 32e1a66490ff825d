"""A histogram that costs next to nothing to add to."""

from bisect import bisect_left
from collections.abc import Sequence


class Histogram:
    """Counts of values by size. One thread adds; any may read.

    Args:
        bounds: upper ends of the buckets, ascending, each part of its bucket. One more bucket
            takes what is larger.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Of each bucket alone, not of all up to it."""
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
