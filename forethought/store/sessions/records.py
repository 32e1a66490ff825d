"""What is kept of a session, as values.

A record is a *head*, which says how to generate, and *rounds*, which say what was generated. The
head stays as it is until the session's next turn; rounds are only ever added.

One *owner* at a time adds to a record. It holds a lease, which each round renews, and with it a
fencing number: whoever takes the session over gets a higher one, and from then on the store
refuses the former owner, whether it knows of its loss or not.
"""

import re
import secrets
from dataclasses import dataclass
from enum import Enum
from itertools import chain

from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode

_SESSION_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
_OWNER = re.compile(r"[!-~]{1,160}")


class SessionStatus(Enum):
    """Where a session is in its life."""

    ACTIVE = "active"  # its owner, if any, is generating
    FINISHED = "finished"  # the turn is complete; another may follow
    CANCELLED = "cancelled"  # ended where it was


@dataclass(frozen=True, slots=True)
class SessionHead:
    """All that it takes to generate a turn."""

    session_id: str
    tenant: str
    model: str  # fingerprint of the target
    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    mode: VerificationMode
    max_len: int  # length at which generation ends, tokens
    request: bytes = b""  # what else the orchestrator wants to find again


@dataclass(frozen=True, slots=True)
class CommittedRound:
    """What one round of decoding committed."""

    round: int  # from 0, without gaps
    position: int  # committed length before it, tokens
    token_ids: tuple[int, ...]
    payload: bytes = b""  # what else a client is told of these tokens


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to add to a record, for as long as nobody else takes it."""

    session_id: str
    tenant: str
    owner: str
    fence: int


@dataclass(frozen=True, slots=True)
class SessionSummary:
    """A session without its content."""

    session_id: str
    status: SessionStatus
    owner: str  # the latest
    fence: int
    num_rounds: int
    num_prompt_tokens: int
    num_tokens: int  # committed: prompt and output
    created_ms: int  # Unix time of the server
    updated_ms: int


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session as it is stored."""

    summary: SessionSummary
    head: SessionHead
    rounds: tuple[CommittedRound, ...]

    @property
    def output_token_ids(self) -> tuple[int, ...]:
        """All tokens committed after the prompt."""
        return tuple(chain.from_iterable(each.token_ids for each in self.rounds))


@dataclass(frozen=True, slots=True)
class SessionPage:
    """A part of a list. It may be shorter than asked for, and even empty, before the end."""

    sessions: tuple[SessionSummary, ...]
    next_page_token: str | None  # None: that was all


def new_session_id() -> str:
    """128 random bits: knowing one is the right to ask for the session, tenant permitting."""
    return secrets.token_urlsafe(16)


def new_owner(address: str) -> str:
    """A name for one attempt to own one session, by whoever listens at `address`.

    No two attempts share a name, so that of two in one process one loses, as of two in two.
    """
    return f"{address}#{secrets.token_hex(8)}"


def is_session_id(text: str) -> bool:
    """Whether `text` could be one."""
    return _SESSION_ID.fullmatch(text) is not None


def is_owner(text: str) -> bool:
    """Whether `text` can name an owner: at most 160 visible ASCII characters."""
    return _OWNER.fullmatch(text) is not None
