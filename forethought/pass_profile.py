"""What a pass of any size takes, from the sizes that a tier has measured."""

from bisect import bisect_left
from collections.abc import Sequence

from forethought.tier import PassCost


class PassProfile:
    """The time of a pass by its tokens, seconds.

    Between two sizes it lies on a straight line, and a larger one never takes less.

    Args:
        measured: smallest first. With none, nothing takes any time.
    """

    def __init__(self, measured: Sequence[PassCost]) -> None:
        self._sizes = [cost.num_tokens for cost in measured]
        self._seconds = [cost.forward_ns / 1e9 for cost in measured]

    def __call__(self, num_tokens: float) -> float:
        """What is expected: beyond the largest size, the last line goes on."""
        sizes, seconds = self._sizes, self._seconds
        if len(sizes) < 2 or num_tokens <= sizes[0]:
            return seconds[0] if sizes else 0.0
        right = min(bisect_left(sizes, num_tokens), len(sizes) - 1)
        left = right - 1
        slope = (seconds[right] - seconds[left]) / (sizes[right] - sizes[left])
        return seconds[left] + max(slope, 0.0) * (num_tokens - sizes[left])

    def at_most(self, num_tokens: int) -> float:
        """The most that a quiet machine takes: beyond the largest size, in proportion to it.

        A slow tier has measured few sizes, whose line says little of a long prompt.
        """
        if not self._sizes or num_tokens <= self._sizes[-1]:
            return self(num_tokens)
        return self._seconds[-1] * num_tokens / self._sizes[-1]
