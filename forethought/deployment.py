"""A deployment as an orchestrator sees it, as values."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from forethought.tier import ModelInfo


class Standing(Enum):
    """What a session can expect of a replica."""

    UNKNOWN = "unknown"  # not heard of yet; may be tried
    SERVING = "serving"
    CLOSED = "closed"  # answers, and takes no sessions: it loads or drains
    LOST = "lost"  # does not answer
    REFUSED = "refused"  # serves what it should not


@dataclass(frozen=True, slots=True)
class Certificate:
    """From when until when it is valid."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """One replica."""

    address: str
    standing: Standing
    why: str  # it has no sessions
    is_ejected: bool  # since rounds failed or questions went unanswered
    num_sessions: int
    model: ModelInfo | None  # None: it has not answered yet
    certificate: Certificate | None  # None: plain text, or it cannot be seen


@dataclass(frozen=True, slots=True)
class TierState:
    """All replicas of a tier."""

    name: str
    replicas: tuple[ReplicaState, ...]


@dataclass(frozen=True, slots=True)
class StoreState:
    """The store of sessions."""

    why_away: str  # empty: it can be used
    num_undurable_sessions: int  # whose last rounds are not written


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """One orchestrator, and what is behind it."""

    version: str
    not_ready: str  # why requests cannot be served; empty: they can
    tiers: tuple[TierState, ...]
    store: StoreState | None  # None: it keeps no sessions
    num_requests: int
    max_requests: int
    num_rounds: int  # since it started
    num_draft_tokens: int
    num_accepted_tokens: int

    @property
    def acceptance_rate(self) -> float | None:
        """Of all tokens that were drafted; None before there was one."""
        if not self.num_draft_tokens:
            return None
        return self.num_accepted_tokens / self.num_draft_tokens
