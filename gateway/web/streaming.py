"""Answers that a client may leave: whoever disconnects has stopped what was done for him."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Generic, Protocol, TypeVar

import msgspec
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from forethought.errors import ForethoughtError
from forethought.runtime.wait_limit import WaitLimit
from gateway.web.errors import FieldName, HttpError, from_forethought, naming, stopping

EventT = TypeVar("EventT")
EventT_contra = TypeVar("EventT_contra", contravariant=True)
Result = TypeVar("Result")

DONE = b"data: [DONE]\n\n"
UNREAD_S = 60.0
"""Time after which a client that reads nothing of its stream has left."""


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


async def until_gone(receive: Receive, work: Awaitable[Result]) -> Result:
    """What `work` brings, unless the client leaves before.

    Raises:
        ClientGoneError: it has left, and `work` is cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    num_cancelling = task.cancelling()
    has_left = False

    def leave(_: asyncio.Future[None]) -> None:
        nonlocal has_left
        has_left = True
        task.cancel()

    watching = asyncio.ensure_future(_gone(receive))
    watching.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if has_left and task.cancelling() == num_cancelling + 1:
            raise ClientGoneError from None
        raise  # the server ends
    finally:
        watching.remove_done_callback(leave)
        watching.cancel()
        if has_left:
            task.uncancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response, Generic[EventT]):
    """Server-sent events. Those that come together, such as the tokens of a round, leave in one
    write.

    The response begins with the first of them, so that a request that is refused gets the status of
    its error.

    Args:
        events: those of each list have come together.
        writer: what is said of them.
        name_of: what the route calls the fields of the service.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncGenerator[Sequence[EventT]],
        writer: Writer[EventT],
        name_of: FieldName = str,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._events, self._writer, self._name_of = events, writer, name_of
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
        with naming(self._name_of):
            first = await anext(self._events)
        self._has_begun = True
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        unread = WaitLimit(UNREAD_S)
        try:
            last = await self._send_events(first, send, unread)
            await unread.wait(send(_body(last, more_body=False)))
        except TimeoutError:
            raise ClientGoneError from None
        finally:
            unread.close()

    async def _send_events(self, first: Sequence[EventT], send: Send, unread: WaitLimit) -> bytes:
        """Returns what is said after them."""
        writer = self._writer
        events: Sequence[EventT] | None = first
        try:
            while events is not None:
                if data := b"".join(map(writer.on, events)):
                    await unread.wait(send(_body(data)))
                events = await anext(self._events, None)
        except ForethoughtError as error:
            return writer.fail(from_forethought(error))
        return writer.end()


def _body(data: bytes, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}
