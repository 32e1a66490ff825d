"""Where the rounds of a session are written down before a client hears of them.

A store that fails never stops a session. The first write that fails costs its time limit, once;
from then on rounds are told at once, the session is *not durable*, and a task tries to store what
is missing, until it is durable again. Only a session that someone else has taken, or deleted, ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from forethought.errors import (
    ForethoughtError,
    RoundMismatchError,
    SessionCorruptError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from forethought.observability.buckets import STEP_S
from forethought.observability.histogram import Histogram
from forethought.runtime import supervision
from forethought.store.sessions.appending import Tail
from forethought.store.sessions.records import CommittedRound, Lease, SessionHead
from forethought.store.sessions.session_store import SessionStore

_log = structlog.get_logger(__name__)

RETRY_S = 0.25
"""Between two attempts to store what is missing."""

PATIENCE_S = 60.0
"""Time after a session's end for which what is missing is still tried to be stored."""


class SessionLog(Protocol):
    """Takes the rounds of one session."""

    @property
    def is_stored(self) -> bool:
        """Whether the session is in the store, so that it can be resumed and continued."""
        ...

    @property
    def is_durable(self) -> bool:
        """Whether all that it took is stored."""
        ...

    async def add(self, rounds: Sequence[CommittedRound], *, is_end: bool) -> None:
        """Returns when the rounds are stored, or cannot be for now.

        Raises:
            LeaseLostError: someone else has the session by now, or it was deleted.
        """
        ...

    def close(self) -> None:
        """The generation is over, complete or not."""
        ...


@dataclass(frozen=True, slots=True)
class NothingToStore:
    """The log of a session that is stored already, or never is."""

    is_durable: bool = False

    @property
    def is_stored(self) -> bool:
        """Whether it is stored already."""
        return self.is_durable

    async def add(self, rounds: Sequence[CommittedRound], *, is_end: bool) -> None:
        """Forgets them."""

    def close(self) -> None:
        """Nothing is held."""


class ClaimedLog:
    """The log of a session that is somebody else's until it is claimed.

    Args:
        claim: takes the session; called once.
    """

    def __init__(self, claim: "Callable[[], Awaitable[StoredSession]]") -> None:
        self._claim = claim
        self._log: SessionLog = NothingToStore()

    @property
    def is_stored(self) -> bool:
        """It is: that is where it was found."""
        return True

    @property
    def is_durable(self) -> bool:
        """Whether all that it took is stored."""
        return self._log.is_durable

    async def claim(self) -> tuple[CommittedRound, ...]:
        """Makes the session ours, and returns the rounds that are stored by then."""
        stored = await self._claim()
        self._log = stored
        return stored.rounds

    async def add(self, rounds: Sequence[CommittedRound], *, is_end: bool) -> None:
        """As in `SessionLog`, once the session is claimed."""
        await self._log.add(rounds, is_end=is_end)

    def close(self) -> None:
        """Gives back what was claimed."""
        self._log.close()


class Background:
    """Tasks that outlive the calls that started them, and counts of what they are for."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.writes = Histogram(STEP_S)
        """Of sessions, by how long they took."""
        self.num_not_durable = 0
        """Sessions that ceased to be durable, each time counted."""
        self.num_recovered = 0
        """Those of them that are durable again."""
        self.num_recovering = 0
        """Those whose rounds are still tried to be stored."""

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs `work` in a task, once."""
        return self._hold(supervision.start(name, work))

    def keep_running(
        self, name: str, work: Callable[[], Coroutine[Any, Any, None]]
    ) -> asyncio.Task[None]:
        """Runs `work` in a task, until it returns."""
        return self._hold(supervision.keep_running(name, work))

    def _hold(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, grace_s: float = 1.0) -> None:
        """Ends all tasks; what needs no more than `grace_s` is completed."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class OwnedRecord:
    """What an owner has of a session when it begins."""

    head: SessionHead
    owner: str  # from `new_owner`
    lease: Lease | None = None  # None: the session is not in the store yet
    rounds: tuple[CommittedRound, ...] = ()  # that the store has


class StoredSession:
    """The log of a session that this process owns.

    Args:
        store: where it is stored.
        owned: what is there of it.
        background: for what goes on when calls are over.
    """

    def __init__(self, store: SessionStore, owned: OwnedRecord, background: Background) -> None:
        self._store = store
        self._head = owned.head
        self._owner = owned.owner
        self._background = background
        self._lease = owned.lease
        self._rounds = list(owned.rounds)
        self._num_stored = len(self._rounds)
        self._tail: Tail | None = None  # from the last append
        self._is_ended = False
        self._is_end_stored = False
        self._recovery: asyncio.Task[None] | None = None
        self._error: ForethoughtError | None = None  # why it cannot be stored ever
        self._closed_at: float | None = None

    @property
    def is_stored(self) -> bool:
        """Whether the session is in the store, with its head at least."""
        return self._lease is not None

    @property
    def rounds(self) -> tuple[CommittedRound, ...]:
        """All that it has."""
        return tuple(self._rounds)

    @property
    def is_durable(self) -> bool:
        """Whether all that it took is stored."""
        is_complete = self._num_stored == len(self._rounds)
        return is_complete and self._is_ended == self._is_end_stored and self._lease is not None

    async def add(self, rounds: Sequence[CommittedRound], *, is_end: bool) -> None:
        """As in `SessionLog`."""
        if self._error is not None:
            raise self._error
        self._rounds += rounds
        self._is_ended = is_end
        if self._recovery is not None or self.is_durable:
            return
        began_s = time.perf_counter()
        try:
            await self._write()
        except StoreUnavailableError as error:
            self._background.num_not_durable += 1
            _log.warning("session_not_durable", session_id=self._head.session_id, why=error.message)
            self._recovery = self._background.keep_running("recovery of a session", self._recover)
        finally:
            self._background.writes.observe(time.perf_counter() - began_s)

    def close(self) -> None:
        """Lets others have a session that was broken off. Storing what is missing goes on."""
        self._closed_at = time.monotonic()
        if self._recovery is None and not self._is_ended and self._lease and not self._error:
            self._background.start("release of a session", self._release(self._lease))

    async def _write(self) -> None:
        """Stores what is not stored yet."""
        if self._lease is None:
            self._lease = await self._store.create(self._head, self._owner)
        num_rounds, is_ended = len(self._rounds), self._is_ended
        try:
            missing = self._rounds[self._num_stored : num_rounds]
            await self._send(self._lease, missing, is_end=is_ended)
        except (SessionNotFoundError, SessionCorruptError):
            await self._store.restore(self._lease, self._head, self._rounds[:num_rounds])
            await self._send(self._lease, (), is_end=is_ended)
        except RoundMismatchError as error:
            # A server that came back with an older copy asks for more; never for less.
            first = int(error.metadata["round"])
            if first >= self._num_stored:
                raise
            await self._send(self._lease, self._rounds[first:num_rounds], is_end=is_ended)
        self._num_stored, self._is_end_stored = num_rounds, is_ended

    async def _send(self, lease: Lease, rounds: Sequence[CommittedRound], *, is_end: bool) -> None:
        if is_end:
            await self._store.finish(lease, rounds=rounds)
        elif rounds:
            # One that fails leaves none.
            after, self._tail = self._tail, None
            self._tail = await self._store.append(lease, rounds, after)

    async def _recover(self) -> None:
        self._background.num_recovering += 1
        try:
            await self._store_missing()
        finally:
            self._background.num_recovering -= 1

    async def _store_missing(self) -> None:
        """Tries until all is stored, cannot be stored ever, or is given up."""
        while not self._is_given_up():
            await asyncio.sleep(RETRY_S)
            try:
                while not self.is_durable:
                    await self._write()
            except StoreUnavailableError:
                continue
            except ForethoughtError as error:
                self._error = error
                _log.warning("session_lost", session_id=self._head.session_id, reason=error.reason)
                return
            self._recovery = None
            self._background.num_recovered += 1
            _log.info("session_durable_again", session_id=self._head.session_id)
            if self._closed_at is not None:
                self.close()
            return
        _log.warning("session_never_durable", session_id=self._head.session_id)

    def _is_given_up(self) -> bool:
        return self._closed_at is not None and time.monotonic() > self._closed_at + PATIENCE_S

    async def _release(self, lease: Lease) -> None:
        with suppress(ForethoughtError):
            await self._store.release(lease)
