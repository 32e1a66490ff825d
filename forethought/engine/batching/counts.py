"""What an engine counts, as plain numbers."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from forethought.observability.buckets import PASS_TOKENS, STEP_S
from forethought.observability.histogram import Histogram
from forethought.tier import PassCost


@dataclass(frozen=True, slots=True)
class PassRecord:
    """What a pass was, and what it took."""

    started_ns: int
    """From `perf_counter_ns`."""
    total_ns: int
    finish_ns: int
    """Of that after the model's part."""
    batch_size: int
    """Sequences in it."""
    num_tokens: int
    """Of all sequences."""

    @property
    def seconds(self) -> float:
        """In all."""
        return self.total_ns / 1e9


class PassFloors:
    """What a pass of each size takes on a quiet machine.

    Args:
        costs: as measured when the tier started, smallest first; none makes all floors 0.
    """

    def __init__(self, costs: Sequence[PassCost]) -> None:
        self._sizes = [cost.num_tokens for cost in costs]
        self._seconds = [cost.forward_ns / 1e9 for cost in costs]

    def seconds(self, num_tokens: int) -> float:
        """Between two sizes along a straight line, beyond the largest in proportion."""
        sizes, seconds = self._sizes, self._seconds
        if not sizes:
            return 0.0
        index = bisect_left(sizes, num_tokens)
        if index == len(sizes):
            return seconds[-1] * num_tokens / sizes[-1]
        if not index or sizes[index] == num_tokens:
            return seconds[index]
        share = (num_tokens - sizes[index - 1]) / (sizes[index] - sizes[index - 1])
        return seconds[index - 1] + share * (seconds[index] - seconds[index - 1])


@dataclass(slots=True, eq=False)
class EngineCounts:
    """Since the process began. Each field has one writer."""

    floors: PassFloors = field(default_factory=lambda: PassFloors([]))
    passes: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    pass_tokens: Histogram = field(default_factory=lambda: Histogram(PASS_TOKENS))
    floor_s: float = 0.0
    """Of all passes together, what they should have taken."""
    num_failed_passes: int = 0
    """For a single session: others are repeated."""
    num_refused_sessions: int = 0
    """For which there was no room."""
    num_preemptions: int = 0
    """Times that a session has lost its blocks to another."""
    num_looked_up_tokens: int = 0
    """Committed tokens of sessions when they were let in first."""
    num_found_tokens: int = 0
    """Of them, tokens whose keys and values were in memory."""
    queue: Histogram = field(default_factory=lambda: Histogram(STEP_S))
    """Of rounds, from their arrival to their first pass."""

    def add(self, record: PassRecord) -> None:
        """A pass has ended."""
        self.passes.observe(record.seconds)
        self.pass_tokens.observe(record.num_tokens)
        self.floor_s += self.floors.seconds(record.num_tokens)
