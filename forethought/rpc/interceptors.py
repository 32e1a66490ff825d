"""Server interceptors: the gate that refuses calls while loading or draining, and the one place
where exceptions become gRPC status.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
import structlog

from forethought.errors import ForethoughtError
from forethought.rpc.status import abort

_log = structlog.get_logger(__name__)

# In quotes: gRPC's classes are generic for type checkers only.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"

_ALWAYS_OPEN = ("/grpc.health.", "/grpc.reflection.")


class GateInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call, health and reflection apart, while `closed_by` names a reason."""

    def __init__(self, closed_by: Callable[[], ForethoughtError | None]) -> None:
        self._closed_by = closed_by

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        error = self._closed_by()
        if error is None or handler_call_details.method.startswith(_ALWAYS_OPEN):
            return await continuation(handler_call_details)

        async def refuse(
            _requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
        ) -> None:
            await abort(context, error)

        # On the wire every kind of call is a stream, so one kind of handler refuses them all.
        return grpc.stream_stream_rpc_method_handler(refuse)


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Maps exceptions of handlers to status. Unknown ones become INTERNAL with an id that the log
    holds too; cancellation passes untouched.
    """

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        found = await continuation(handler_call_details)
        method = handler_call_details.method
        if found is None or method.startswith(_ALWAYS_OPEN):
            return found
        handler: Any = found
        if handler.response_streaming:
            wrapped = _wrap_stream(handler.stream_stream or handler.unary_stream, method)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = _wrap_unary(handler.stream_unary or handler.unary_unary, method)
            kind = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        made: Handler = kind(wrapped, handler.request_deserializer, handler.response_serializer)
        return made


def _wrap_unary(behaviour: Any, method: str) -> Any:
    async def wrapped(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - the last handler before gRPC's own
            await _abort_for(error, context, method)

    return wrapped


def _wrap_stream(behaviour: Any, method: str) -> Any:
    async def wrapped(
        request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        try:
            # Closed here and now when the call is cancelled, not when the garbage is collected.
            async with aclosing(behaviour(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - the last handler before gRPC's own
            await _abort_for(error, context, method)

    return wrapped


async def _abort_for(
    error: Exception, context: grpc.aio.ServicerContext[Any, Any], method: str
) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, ForethoughtError) and error.code != "INTERNAL":
        _log.info("call_refused", method=method, reason=error.reason, detail=error.message)
        await abort(context, error)
    error_id = uuid.uuid4().hex
    _log.error("call_failed", method=method, error_id=error_id, exc_info=error)
    await abort(context, ForethoughtError(f"internal error {error_id}"))
