"""Session records in Redis: who may add to them, and what they hold.

Each operation is one round trip to a script (`sessions.lua`) that checks and writes in one step.
A tenant's records lie under a hash of its name, so that whoever asks for a foreign session looks
where there is none. All keys of a tenant share a hash tag, which a Redis cluster needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import structlog

from forethought.errors import InvalidArgumentError, SessionCorruptError
from forethought.store.server.connection import Argument, StoreConnection
from forethought.store.sessions.appending import RecordLocation, Tail, append_after
from forethought.store.sessions.record_codec import (
    pack_head,
    pack_round,
    unpack_record,
    unpack_summary,
)
from forethought.store.sessions.records import (
    CommittedRound,
    Lease,
    SessionHead,
    SessionPage,
    SessionRecord,
    SessionStatus,
    SessionSummary,
    is_owner,
    is_session_id,
)
from forethought.store.sessions.session_script import not_found, run_script

_log = structlog.get_logger(__name__)

_FIRST_FENCE = 1
_NOBODY = "-"  # where the script wants an owner and does not look at it
_MAX_PAGE = 1000
_MAX_SCAN = 2000  # entries of an index that one list call looks at


@dataclass(frozen=True, slots=True)
class SessionStoreSettings:
    """How long things live."""

    prefix: str = "forethought"
    """Begins all keys."""
    ttl_s: float = 3600.0
    """Time after its last change at which a record goes."""
    lease_s: float = 10.0
    """Time after its last sign of life for which nobody else gets a session without insisting."""
    deleted_ttl_s: float = 60.0
    """Time for which a deleted session cannot come back: longer than any call of its owner."""


class SessionStore:
    """The records of all tenants.

    Every operation raises StoreUnavailableError if the store cannot do it in time; it may have
    been done nevertheless, and may be repeated. SessionCorruptError says that a record is not as
    it was written; nothing of it is returned.
    """

    def __init__(
        self, connection: StoreConnection, settings: SessionStoreSettings | None = None
    ) -> None:
        self._connection = connection
        self._settings = settings or SessionStoreSettings()

    async def create(self, head: SessionHead, owner: str) -> Lease:
        """Stores a new session, which is its owner's.

        Args:
            head: with an id from `new_session_id`.
            owner: from `new_owner`.

        Raises:
            LeaseLostError: there is such a session already, and it is another's.
        """
        lease = Lease(head.session_id, head.tenant, owner, _FIRST_FENCE)
        await self._put("create", lease, head, ())
        return lease

    async def restore(
        self, lease: Lease, head: SessionHead, rounds: Sequence[CommittedRound]
    ) -> None:
        """Stores a session again that the store has lost, under the lease it gave before.

        For an owner whose `append` says SessionNotFoundError. What the store has of an older
        lease is replaced.

        Raises:
            LeaseLostError: another has the session, or it was deleted a short time ago.
            RoundMismatchError: the store has it, and other than this.
        """
        await self._put("restore", lease, head, rounds)

    async def begin_turn(self, lease: Lease, head: SessionHead) -> None:
        """Starts the next turn: its prompt is all that was said before, and what is new.

        The rounds of the turn before are dropped, and counting begins at 0 again.

        Raises:
            LeaseLostError: another has the session by now.
            SessionNotFoundError: it is not stored any more.
        """
        await self._put("turn", lease, head, ())

    async def acquire(
        self, tenant: str, session_id: str, owner: str, *, take_over: bool = False
    ) -> tuple[Lease, SessionRecord]:
        """Makes `owner` the one who may add to a session. Whoever was it before is refused then.

        Args:
            tenant: who asks.
            session_id: as the client gave it; may be anything.
            owner: from `new_owner`. The owner itself gets its lease again.
            take_over: even from an owner whose lease has not ended.

        Raises:
            SessionInUseError: another's lease has not ended; the metadata has the `lease_left_ms`.
            SessionNotFoundError: there is none for this tenant.
        """
        lease = Lease(session_id, tenant, owner, fence=0)
        fence, flat = await self._run("acquire", lease, self._times(), (int(take_over),))
        lease = replace(lease, fence=int(fence))
        return lease, unpack_record(session_id, tenant, _pairs(flat))

    async def append(
        self, lease: Lease, rounds: Sequence[CommittedRound], after: Tail | None = None
    ) -> Tail | None:
        """Adds rounds, and renews the lease. Without rounds it only renews the lease.

        A round that is stored already, word for word, is no error.

        Args:
            lease: of the owner.
            rounds: to be added.
            after: what the append before it returned. It makes this one cheap, and is never wrong
                to give or to leave out.

        Raises:
            LeaseLostError: another has the session by now, or it was deleted.
            SessionNotFoundError: it is not stored any more; see `restore`.
            RoundMismatchError: the rounds leave a gap, contradict what is stored, or come after
                the end of the turn. The metadata has the `round` and `position` that would follow.
        """
        if after is not None:
            location = RecordLocation(self._keys(lease.tenant, lease.session_id), self._times())
            tail = await append_after(self._connection, location, lease, after, rounds)
            if tail is not None:
                return tail
        written = await self._write(lease, SessionStatus.ACTIVE, rounds, self._times())
        return Tail(written[0]) if written else None

    async def finish(
        self,
        lease: Lease,
        status: SessionStatus = SessionStatus.FINISHED,
        rounds: Sequence[CommittedRound] = (),
    ) -> None:
        """Ends the turn, with its last rounds, and frees the lease. Raises as `append` does."""
        await self._write(lease, status, rounds, self._times(lease_s=0.0))

    async def release(self, lease: Lease, rounds: Sequence[CommittedRound] = ()) -> None:
        """Lets anyone take the session from here on, as when draining. Raises as `append` does."""
        await self._write(lease, SessionStatus.ACTIVE, rounds, self._times(lease_s=0.0))

    async def load(self, tenant: str, session_id: str) -> SessionRecord:
        """All of a session. Changes nothing.

        Raises:
            SessionNotFoundError: there is none for this tenant.
        """
        lease = Lease(session_id, tenant, _NOBODY, fence=0)
        (flat,) = await self._run("load", lease, self._times())
        return unpack_record(session_id, tenant, _pairs(flat))

    async def delete(self, tenant: str, session_id: str) -> None:
        """Deletes a session, whoever owns it.

        Raises:
            SessionNotFoundError: there is none for this tenant.
        """
        times = self._times(lease_s=0.0, ttl_s=self._settings.deleted_ttl_s)
        await self._run("delete", Lease(session_id, tenant, _NOBODY, fence=0), times)

    async def list_page(
        self, tenant: str, *, page_size: int = 100, page_token: str | None = None
    ) -> SessionPage:
        """Sessions of a tenant, newest first. One that cannot be read is left out, and logged.

        Raises:
            InvalidArgumentError: `page_size` is not from 1 to 1000, or `page_token` is not one
                that an earlier page gave.
        """
        if not 1 <= page_size <= _MAX_PAGE:
            raise InvalidArgumentError({"page_size": f"must be from 1 to {_MAX_PAGE}"})
        created, _, after_id = (page_token or "+inf ").partition(" ")
        if page_token is not None and not (created.isdecimal() and is_session_id(after_id)):
            raise InvalidArgumentError({"page_token": "not one of ours"})
        keys = self._tenant_keys(tenant)
        arguments = ("list", "", _NOBODY, 0, 0, 0, page_size, _MAX_SCAN, created, after_id)
        while True:
            found, last, num_junk = await run_script(self._connection, keys, arguments)
            if num_junk:
                _log.warning("session_index_cleaned", key=keys[1], num_junk=num_junk)
            if last or found or not num_junk:
                break  # else there was nothing but junk to look at, and behind it may be more
        return SessionPage(tuple(_readable(found)), b" ".join(last).decode() if last else None)

    async def _put(
        self, how: str, lease: Lease, head: SessionHead, rounds: Sequence[CommittedRound]
    ) -> None:
        if (head.session_id, head.tenant) != (lease.session_id, lease.tenant):
            raise InvalidArgumentError({"session_id": "not the session of the lease"})
        arguments = (how, len(head.prompt_token_ids), pack_head(head), *_packed(lease, rounds))
        await self._run("put", lease, self._times(), arguments)

    async def _write(
        self,
        lease: Lease,
        status: SessionStatus,
        rounds: Sequence[CommittedRound],
        times: tuple[int, int],
    ) -> list[Any]:
        return await self._run("write", lease, times, (status.value, *_packed(lease, rounds)))

    async def _run(
        self,
        operation: str,
        lease: Lease,
        times: tuple[int, int],
        arguments: Sequence[Argument] = (),
    ) -> list[Any]:
        if not is_owner(lease.owner):
            raise InvalidArgumentError({"owner": "must be 1 to 160 visible ASCII characters"})
        common = (operation, lease.session_id, lease.owner, lease.fence, *times)
        keys = self._keys(lease.tenant, lease.session_id)
        return await run_script(self._connection, keys, (*common, *arguments))

    def _times(
        self, *, lease_s: float | None = None, ttl_s: float | None = None
    ) -> tuple[int, int]:
        """Lease and time to live, ms."""
        lease_s = self._settings.lease_s if lease_s is None else lease_s
        ttl_s = self._settings.ttl_s if ttl_s is None else ttl_s
        return round(1000 * lease_s), round(1000 * ttl_s)

    def _keys(self, tenant: str, session_id: str) -> tuple[str, str]:
        """The record's key, and that of the index.

        Raises:
            SessionNotFoundError: no session has such an id.
        """
        if not is_session_id(session_id):
            raise not_found()
        prefix, index = self._tenant_keys(tenant)
        return prefix + session_id, index

    def _tenant_keys(self, tenant: str) -> tuple[str, str]:
        """What the keys of all records begin with, and the key of the index."""
        base = f"{self._settings.prefix}:{{{_tenant_hash(tenant)}}}"
        return f"{base}:session:", f"{base}:sessions"


@lru_cache(maxsize=1000)
def _tenant_hash(tenant: str) -> str:
    return blake2b(tenant.encode(), digest_size=12).hexdigest()


def _packed(lease: Lease, rounds: Sequence[CommittedRound]) -> Iterator[Argument]:
    """Four arguments of the script a round."""
    for each in rounds:
        yield each.round
        yield each.position
        yield len(each.token_ids)
        yield pack_round(lease.session_id, each)


def _readable(found: Sequence[bytes]) -> Iterator[SessionSummary]:
    """Those that can be read, of session ids and states by turns."""
    for session_id, state in _pairs(found).items():
        try:
            yield unpack_summary(session_id.decode(), state)
        except SessionCorruptError as error:
            _log.warning("session_not_listed", session_id=session_id.decode(), why=error.message)


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Names and values, which come by turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
