"""What an engine takes on."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from forethought.engine.batching.scheduler import SchedulerOptions


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What a tier takes on."""

    num_blocks: int
    """Of the KV cache."""
    max_sessions: int = 256
    """Sessions open at a time."""
    max_waiting: int = 256
    """Sessions that wait for memory; beyond that, none is taken in."""
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    turns: AbstractContextManager[None] | None = None
    """Held during the model's part of a pass; see `PassTurns`."""
