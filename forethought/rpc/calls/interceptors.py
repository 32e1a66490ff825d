"""Server interceptors: the gate that refuses calls while loading or draining, and the one place
where exceptions become gRPC status.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing
from inspect import isawaitable
from typing import Any, Self, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from forethought.errors import ForethoughtError, InvalidArgumentError, SessionIdleError
from forethought.observability import traces
from forethought.rpc.calls.call_log import CallRecord, recorded_call
from forethought.rpc.security.guards import Admit, Guard, let_all_in
from forethought.rpc.status import abort, send_headers
from forethought.runtime.supervision import NOBODYS_TO_ANSWER
from forethought.runtime.wait_limit import WaitLimit

_log = structlog.get_logger(__name__)

# In quotes: gRPC's classes are generic for type checkers only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

Reader: TypeAlias = Callable[[Any, Admit], Any]
"""Makes of what gRPC received what a handler takes."""

_ALWAYS_OPEN = ("/grpc.health.", "/grpc.reflection.")

_OPEN_WHILE_CLOSED = (*_ALWAYS_OPEN, "/forethought.v1.DeploymentService/")
"""These tell what is wrong."""

_BEGIN_TRACES = {"Generate"}

_FAULTS_OF_SERVERS = {"UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
"""By OpenTelemetry's conventions for gRPC."""

_MAX_LOGGED_CHARS = 300
"""Of a refusal: messages may quote what a caller sent."""


class GateInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls while `closed_by` names a reason, but not those that ask what is wrong."""

    def __init__(self, closed_by: Callable[[], ForethoughtError | None]) -> None:
        self._closed_by = closed_by

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        error = self._closed_by()
        if error is None or handler_call_details.method.startswith(_OPEN_WHILE_CLOSED):
            return await continuation(handler_call_details)

        async def refuse(
            _requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> None:
            await abort(context, error)

        # On the wire every kind of call is a stream, so one kind of handler refuses them all.
        return grpc.stream_stream_rpc_method_handler(refuse)


class RunningCalls:
    """Counts the calls that are under way, health and reflection apart."""

    def __init__(self) -> None:
        self._num = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def __enter__(self) -> None:
        self._num += 1
        self._is_idle.clear()

    def __exit__(self, *_: object) -> None:
        self._num -= 1
        if not self._num:
            self._is_idle.set()

    async def all_ended(self) -> None:
        """Returns when there is none."""
        await self._is_idle.wait()


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps exceptions of handlers to status. Unknown ones become INTERNAL with an id that the log
    holds too; cancellation passes untouched.

    Requests are deserialised here, since gRPC would answer UNKNOWN to bytes that are no message.

    Args:
        running: counts the calls.
        unread_timeout_s: time that a client has to take a response of a stream.
        max_message_bytes: of a request. A larger one is refused by the length of its bytes: as
            a message it takes many times as much, if it has many parts.
        guard: says who may call.
    """

    def __init__(
        self,
        running: RunningCalls,
        unread_timeout_s: float,
        max_message_bytes: Callable[[], int],
        guard: Guard = let_all_in,
    ) -> None:
        self._running = running
        self._guard = guard
        self._unread_timeout_s = unread_timeout_s
        self._max_message_bytes = max_message_bytes

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        found = await continuation(handler_call_details)
        method = handler_call_details.method
        if found is None or method.startswith(_ALWAYS_OPEN):
            return found
        handler: Any = found
        read = _reader(handler, self._max_message_bytes)
        if handler.response_streaming:
            wrapped = self._wrap_stream(handler.stream_stream or handler.unary_stream, read, method)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = self._wrap_unary(handler.stream_unary or handler.unary_unary, read, method)
            kind = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        made: Handler = kind(wrapped, None, handler.response_serializer)
        return made

    def _wrap_unary(self, behaviour: Any, read: Reader, method: str) -> Any:
        async def wrapped(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            with self._running, _span_of(method, context), recorded_call(method) as record:
                try:
                    with self._guard(context, method) as admit:
                        return await behaviour(read(raw, admit), context)
                except NOBODYS_TO_ANSWER:
                    raise
                except BaseException as error:  # noqa: BLE001 - the last handler before gRPC's own
                    await _abort_for(error, context, record)

        return wrapped

    def _wrap_stream(self, behaviour: Any, read: Reader, method: str) -> Any:
        """The handler yields its responses, or writes them itself and is awaited."""

        # A coroutine that writes, not a generator: gRPC leaves generators to the garbage collector
        # when a call is cancelled while it writes. This one is cancelled itself, and closes.
        async def wrapped(raw: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            with self._running, _span_of(method, context), recorded_call(method) as record:
                try:
                    with self._guard(context, method) as admit:
                        responses = behaviour(read(raw, admit), context)
                        if isawaitable(responses):
                            await responses
                            return
                        async with aclosing(responses):
                            await _write_all(responses, context, self._unread_timeout_s)
                except NOBODYS_TO_ANSWER:
                    raise
                except BaseException as error:  # noqa: BLE001 - the last handler before gRPC's own
                    await _abort_for(error, context, record)

        return wrapped


class _Messages:
    """The messages of a request stream, each deserialised when it is asked for."""

    def __init__(self, raw: AsyncIterator[bytes], parse: Callable[[bytes], Any]) -> None:
        self._raw = aiter(raw)
        self._parse = parse

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return self._parse(await anext(self._raw))


def _reader(handler: Any, max_message_bytes: Callable[[], int]) -> Reader:
    """Makes of what gRPC received, bytes or a stream of them, what the handler takes."""

    def parse(raw: bytes) -> Any:
        if len(raw) > (most := max_message_bytes()):
            raise InvalidArgumentError(
                {"request": f"has {len(raw)} bytes, at most {most} are taken"}
            )
        try:
            return handler.request_deserializer(raw)
        except DecodeError:
            raise InvalidArgumentError({"request": "is not a message of this method"}) from None

    def read(raw: bytes, admit: Admit) -> Any:
        message = parse(raw)
        admit(message)
        return message

    if handler.request_streaming:
        return lambda raw, _admit: _Messages(raw, parse)
    return read


async def _write_all(
    responses: AsyncIterator[Any],
    context: grpc.aio.ServicerContext[Any, Any],
    unread_timeout_s: float,
) -> None:
    limit = WaitLimit(unread_timeout_s)
    try:
        has_begun = False
        async for response in responses:
            if not has_begun:
                await send_headers(context)
                has_begun = True
            try:
                await limit.wait(context.write(response))
            except TimeoutError:
                raise SessionIdleError(
                    f"nobody read a response within {unread_timeout_s:g} s"
                ) from None
    finally:
        limit.close()


def _span_of(
    method: str, context: grpc.aio.ServicerContext[Any, Any]
) -> AbstractContextManager[None]:
    """Of the caller's trace, or of one of its own where a client asks for text."""
    if not traces.is_on():
        return traces.OFF
    service, _, name = method.removeprefix("/").rpartition("/")
    return traces.server_span(
        f"{service}/{name}",
        dict(context.invocation_metadata() or ()),
        {"rpc.system.name": "grpc", "rpc.method": f"{service}/{name}"},
        is_root=name in _BEGIN_TRACES,
    )


async def _abort_for(
    error: BaseException, context: grpc.aio.ServicerContext[Any, Any], record: CallRecord
) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    named = error if isinstance(error, ForethoughtError) else ForethoughtError("")
    traces.note_failure(named.reason, is_ours=named.code in _FAULTS_OF_SERVERS)
    if isinstance(error, ForethoughtError) and error.code != "INTERNAL":
        detail = error.message[:_MAX_LOGGED_CHARS]
        _log.info("call_refused", reason=error.reason, detail=detail, **record.facts)
        # The frames of the handler hold the request, for as long as its client takes to hear this.
        error.__traceback__ = error.__context__ = error.__cause__ = None
        await abort(context, error)
    error_id = uuid.uuid4().hex
    _log.error("call_failed", error_id=error_id, exc_info=error, **record.facts)
    await abort(context, ForethoughtError(f"internal error {error_id}"))
