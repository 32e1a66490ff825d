"""A connection that many calls share: commands leave as they come, answers return in their order.

redis-py lends a connection to one call at a time, and guards each call with timers, retries and
locks. That takes 0.1 ms of processor time, several times what the rest of storing a round does.
Here a call is a write and a future, and one watchdog looks after all of them: when the oldest
has waited for its time limit, the connection is given up, and all that wait with it.

redis-py makes the connection, so TLS, users and databases are as the URL says; then its transport
is taken over. That happens behind calls, which go another way until it is done.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from forethought.runtime.supervision import start

RETRY_S = 1.0
"""Between two attempts to connect."""

_NOT_YET = object()


class Pipeline:
    """Makes the connection when it is wanted, and again when it was lost.

    Args:
        make_connection: of redis-py, not connected yet.
        timeout_s: for each call, and to connect.
    """

    def __init__(self, make_connection: Callable[[], AbstractConnection], timeout_s: float) -> None:
        self._make_connection = make_connection
        self._timeout_s = timeout_s
        self._line: _Line | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._retry_at = 0.0

    def connect(self) -> None:
        """Begins to connect, if there is no connection and the last attempt is some time ago."""
        is_wanted = self._line is None or self._line.is_lost
        if is_wanted and self._connecting is None and time.monotonic() >= self._retry_at:
            self._retry_at = time.monotonic() + RETRY_S
            self._connecting = start("connection to the store", self._connect())

    def send(self, command: bytes) -> asyncio.Future[Any] | None:
        """The answer to come, a `hiredis.ReplyError` if the server refuses; None without a
        connection. Raises TimeoutError if it is late, and ConnectionError if the connection ends.

        Args:
            command: packed.
        """
        line = self._line
        return None if line is None or line.is_lost else line.send(command)

    async def close(self) -> None:
        """Ends the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait((self._connecting,))
        if self._line is not None:
            self._line.end(ConnectionError("closed"))

    async def _connect(self) -> None:
        connection = self._make_connection()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.connect()  # type: ignore[no-untyped-call]
            self._line = _Line(connection, self._timeout_s)
        except (OSError, RedisError):
            pass  # whoever calls meanwhile learns what is wrong
        finally:
            self._connecting = None
            # Also where this is cancelled. A line has taken what there was to close.
            await connection.disconnect(nowait=True)


class _Line(asyncio.Protocol):
    """One connection, from its making to its loss."""

    def __init__(self, connection: AbstractConnection, timeout_s: float) -> None:
        # redis-py has no public way to do this. A writer that nobody holds may close its transport.
        self._writer = cast("asyncio.StreamWriter", connection._writer)  # noqa: SLF001
        connection._writer = connection._reader = None  # noqa: SLF001
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._parser = hiredis.Reader(notEnoughData=_NOT_YET)
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = (
            deque()
        )  # since when, oldest first
        self._watchdog: asyncio.TimerHandle | None = None  # while anybody waits
        self.is_lost = self._transport.is_closing()

    def send(self, command: bytes) -> asyncio.Future[Any]:
        answer = self._loop.create_future()
        self._waiting.append((self._loop.time(), answer))
        self._transport.write(command)
        if self._watchdog is None:
            self._watchdog = self._loop.call_later(self._timeout_s, self._look)
        return answer

    def end(self, why: OSError) -> None:
        """Closes the connection now. All that wait are told why."""
        self.is_lost = True
        self._transport.abort()
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None
        for _, answer in self._waiting:
            if not answer.done():
                answer.set_exception(why)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        self._parser.feed(data)
        while (reply := self._parser.gets()) is not _NOT_YET:
            _, answer = self._waiting.popleft()
            if not answer.done():  # its caller may have been cancelled
                answer.set_result(reply)

    def connection_lost(self, _: Exception | None) -> None:
        self.end(ConnectionError("the connection ended"))

    def _look(self) -> None:
        self._watchdog = None
        if not self._waiting:
            return
        oldest, _ = self._waiting[0]
        left_s = oldest + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._watchdog = self._loop.call_later(left_s, self._look)
        else:
            self.end(TimeoutError("no answer in time"))
