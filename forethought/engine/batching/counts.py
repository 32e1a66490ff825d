"""What an engine counts, as plain numbers."""

from dataclasses import dataclass, field

from forethought.observability.buckets import PASS_TOKENS, STEP_S
from forethought.observability.histogram import Histogram
from forethought.pass_profile import PassProfile


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


@dataclass(slots=True, eq=False)
class EngineCounts:
    """Since the process began. Each field has one writer."""

    profile: PassProfile = field(default_factory=lambda: PassProfile(()))
    """What passes take on a quiet machine, as measured when the tier started."""
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
        self.floor_s += self.profile.at_most(record.num_tokens)
