"""Answers that a client may leave: whoever disconnects has stopped what was done for him."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import structlog
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from forethought.errors import ForethoughtError
from forethought.runtime.wait_limit import WaitLimit
from gateway.web.errors import HttpError, from_forethought, stopping

_log = structlog.get_logger(__name__)

EventT = TypeVar("EventT")
EventT_contra = TypeVar("EventT_contra", contravariant=True)
Result = TypeVar("Result")

DONE = b"data: [DONE]\n\n"
UNREAD_S = 60.0
"""Time after which a client that reads nothing of its stream has left."""


_MAX_UNSENT = 2**16


class ClientGoneError(Exception):
    """There is nobody left to answer."""


class Writer(Protocol[EventT_contra]):
    """What a stream says, as bytes; each may be empty."""

    def on(self, event: EventT_contra) -> bytes:
        """Of an event."""
        ...

    def end(self) -> bytes:
        """After the last one."""
        ...

    def fail(self, error: HttpError) -> bytes:
        """Where there is no other way left to say that it broke off."""
        ...


def sse(content: msgspec.Struct) -> bytes:
    """One event of a stream."""
    return b"data: %b\n\n" % msgspec.json.encode(content)


async def until_gone(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` brings, unless the client leaves before.

    Raises:
        ClientGoneError: it has left, and `work` is cancelled.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGoneError
    finally:
        await _cancelled(leaving, working)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


class _Outbox:
    """Bytes between who makes them and who sends them. What is made at one go is sent at one go."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_closed = False
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Waits only where too much is unsent."""
        self._data += data
        self._filled.set()
        if len(self._data) > _MAX_UNSENT:
            self._emptied.clear()
            await self._emptied.wait()

    def close(self) -> None:
        """Nothing follows."""
        self._is_closed = True
        self._filled.set()

    async def take(self) -> bytes:
        """All that there is, once there is something; nothing at the end."""
        while not self._data and not self._is_closed:
            self._filled.clear()
            await self._filled.wait()
        data = bytes(self._data)
        self._data.clear()
        self._emptied.set()
        return data


class EventStream(Response, Generic[EventT]):
    """Server-sent events. Tokens of one round come at one go, and leave in one write.

    Args:
        first: the events that came before it was clear that the answer is no error.
        events: the rest.
        writer: what is said of them.
    """

    media_type = "text/event-stream"

    def __init__(
        self, first: EventT, events: AsyncGenerator[EventT], writer: Writer[EventT]
    ) -> None:
        self.status_code = 200
        self.background = None
        self._first, self._events, self._writer = first, events, writer
        self._has_begun = False
        self.init_headers({"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            async with aclosing(self._events):
                await until_gone(receive, self._send_all(send))
        except asyncio.CancelledError:
            if self._has_begun:
                await send(_body(self._writer.fail(stopping()), more_body=False))
            raise

    async def _send_all(self, send: Send) -> None:
        self._has_begun = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        outbox, unread = _Outbox(), WaitLimit(UNREAD_S)
        making = asyncio.ensure_future(self._make_all(outbox))
        try:
            while data := await outbox.take():
                await unread.wait(send(_body(data)))
            await making
            await unread.wait(send(_body(b"", more_body=False)))
        except TimeoutError:
            raise ClientGoneError from None
        finally:
            unread.close()
            await _cancelled(making)

    async def _make_all(self, outbox: _Outbox) -> None:
        writer = self._writer
        try:
            await outbox.put(writer.on(self._first))
            async for event in self._events:
                if data := writer.on(event):
                    await outbox.put(data)
            await outbox.put(writer.end())
        except ForethoughtError as error:
            await outbox.put(writer.fail(from_forethought(error)))
        finally:
            outbox.close()


def _body(data: bytes, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


async def begin_stream(
    receive: Receive, events: AsyncGenerator[EventT], writer: Writer[EventT]
) -> EventStream[EventT]:
    """Waits for the first event, so that a request that is refused gets the status of its error.

    Raises:
        ForethoughtError: it is refused.
        ClientGoneError: the client did not wait.
    """
    try:
        first = await until_gone(receive, anext(events))
    except BaseException:
        await events.aclose()
        raise
    return EventStream(first, events, writer)
