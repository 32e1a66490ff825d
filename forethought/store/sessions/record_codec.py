"""Session records as the fields of a Redis hash, and back.

Heads and rounds are sealed with the session they belong to, rounds with their place in it too;
state is written by the script and carries a hash of its own. Reading checks that the rounds are
those that state counts, one behind the other. So a field that is lost, old, foreign or changed is
noticed, and the record is refused as a whole: half a session would go on with another text.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1

from pydantic import ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from forethought.errors import InvalidArgumentError, SessionCorruptError, SessionNotFoundError
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from forethought.store.sessions.records import (
    CommittedRound,
    SessionHead,
    SessionRecord,
    SessionStatus,
    SessionSummary,
)
from forethought.store.sessions.sealed import seal, unseal

STATE, HEAD = b"s", b"h"
DELETED = "deleted"
"""Status of what is only kept so that nobody brings it back."""

_STATUSES = {DELETED, *(status.value for status in SessionStatus)}
_STATE = re.compile(
    r"(?P<fence>\d{1,15}) (?P<owner>\S+) \d+ (?P<status>\w+) (?P<num_rounds>\d{1,9}) "
    r"(?P<num_tokens>\d{1,9}) (?P<num_prompt_tokens>\d{1,9}) "
    r"(?P<created_ms>\d{1,15}) (?P<updated_ms>\d{1,15})",
    re.ASCII,
)
"""No number has more digits than the messages that tell of it take."""

_HEAD_KIND = b"FTH\x01"
_ROUND_KIND = b"FTR\x01"


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of a head, what is neither tokens nor anybody's own."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    tenant: str
    model: str
    sampling: SamplingParams
    mode: VerificationMode
    max_len: NonNegativeInt


_FACTS = TypeAdapter(_Facts)


def pack_head(head: SessionHead) -> bytes:
    """The head, which does not hold its session's id."""
    facts = _Facts(head.tenant, head.model, head.sampling, head.mode, head.max_len)
    parts = (_FACTS.dump_json(facts), _pack_tokens(head.prompt_token_ids), head.request)
    return seal(_HEAD_KIND, head.session_id.encode(), parts)


def pack_round(session_id: str, committed: CommittedRound) -> bytes:
    """A round, which does not hold its place."""
    parts = (_pack_tokens(committed.token_ids), committed.payload)
    return seal(_ROUND_KIND, _place(session_id, committed.round, committed.position), parts)


def unpack_summary(session_id: str, packed: bytes | None) -> SessionSummary:
    """The state of a session.

    Raises:
        SessionCorruptError: it is not as it was written.
        SessionNotFoundError: the session was deleted.
    """
    body, _, checksum = (packed or b"").rpartition(b" ")
    expected = sha1(session_id.encode() + b" " + body, usedforsecurity=False)
    if expected.hexdigest().encode() != checksum:
        raise _corrupt("state")
    found = _STATE.fullmatch(body.decode(errors="replace"))
    if found is None or found["status"] not in _STATUSES:  # of another version
        raise _corrupt("state")
    if found["status"] == DELETED:
        raise SessionNotFoundError("no such session")
    return SessionSummary(
        session_id=session_id,
        status=SessionStatus(found["status"]),
        owner=found["owner"],
        fence=int(found["fence"]),
        num_rounds=int(found["num_rounds"]),
        num_prompt_tokens=int(found["num_prompt_tokens"]),
        num_tokens=int(found["num_tokens"]),
        created_ms=int(found["created_ms"]),
        updated_ms=int(found["updated_ms"]),
    )


def unpack_record(session_id: str, tenant: str, fields: Mapping[bytes, bytes]) -> SessionRecord:
    """A session from all fields of its hash.

    Raises:
        SessionCorruptError: it is not as it was written.
        SessionNotFoundError: the session was deleted.
    """
    summary = unpack_summary(session_id, fields.get(STATE))
    head = _unpack_head(session_id, fields.get(HEAD, b""))
    if head.tenant != tenant or len(head.prompt_token_ids) != summary.num_prompt_tokens:
        raise _corrupt("head")
    rounds: list[CommittedRound] = []
    position = summary.num_prompt_tokens
    for number in range(summary.num_rounds):
        packed = fields.get(b"r%d" % number, b"")
        parts = unseal(_ROUND_KIND, _place(session_id, number, position), 2, packed)
        if parts is None:
            raise _unreadable(f"round {number}", _ROUND_KIND, packed)
        rounds.append(CommittedRound(number, position, _unpack_tokens(parts[0]), parts[1]))
        position += len(rounds[-1].token_ids)
    if position != summary.num_tokens:
        raise _corrupt("length")
    return SessionRecord(summary, head, tuple(rounds))


def _unpack_head(session_id: str, packed: bytes) -> SessionHead:
    parts = unseal(_HEAD_KIND, session_id.encode(), 3, packed)
    if parts is None:
        raise _unreadable("head", _HEAD_KIND, packed)
    try:
        facts = _FACTS.validate_json(parts[0])
        return SessionHead(
            session_id=session_id,
            tenant=facts.tenant,
            model=facts.model,
            prompt_token_ids=_unpack_tokens(parts[1]),
            sampling=facts.sampling,
            mode=facts.mode,
            max_len=facts.max_len,
            request=parts[2],
        )
    except (ValidationError, InvalidArgumentError) as error:
        # Intact, and of a version that knows more or less than this one.
        raise _corrupt("head") from error


def _unreadable(what: str, kind: bytes, packed: bytes) -> SessionCorruptError:
    """Why a sealed value does not open: its kind ends with the number of its layout."""
    is_another = packed[:3] == kind[:3] and packed[:4] != kind
    return _corrupt(f"another version of Forethought stored it ({what})" if is_another else what)


def _corrupt(what: str) -> SessionCorruptError:
    return SessionCorruptError(f"the stored session cannot be read: {what}")


def _place(session_id: str, number: int, position: int) -> bytes:
    return struct.pack("<QQ", number, position) + session_id.encode()


def _pack_tokens(token_ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(token_ids)}I", *token_ids)


def _unpack_tokens(packed: bytes) -> tuple[int, ...]:
    if len(packed) % 4:
        raise _corrupt("tokens")
    return struct.unpack(f"<{len(packed) // 4}I", packed)
