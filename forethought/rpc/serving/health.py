"""Health and reflection, whose streams end when the server begins to drain.

A health watch is a call that goes on for as long as its client likes. A server that waited for all
calls to end would wait for its whole grace whenever an orchestrator looks at it. So watchers are
told NOT_SERVING and their streams end; those who ask again are told the same.

Such streams are free to open, so they are bounded in number (`call_shares.py`).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from forethought.errors import OverloadedError
from forethought.rpc.calls.call_shares import CallShares
from forethought.rpc.status import abort

Status: TypeAlias = "health_pb2.HealthCheckResponse.ServingStatus"

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

MAX_WATCHES = 1024
MAX_REFLECTIONS = 64
"""Streams under way."""


class Health:
    """One status for the whole server and for each of its services.

    Args:
        services: their full names.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._services = {"", *services}
        self._status = NOT_SERVING
        self._has_changed = asyncio.Event()
        self._has_ended = False
        self._watches = CallShares(MAX_WATCHES)

    @property
    def status(self) -> Status:
        """What everybody is told now."""
        return self._status

    def set(self, status: Status) -> None:
        """What everybody is told from now on."""
        self._status = status
        self._wake()

    def end(self) -> None:
        """Says NOT_SERVING for good, and ends the streams of all that watch."""
        self._has_ended = True
        self.set(NOT_SERVING)

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> health_pb2.HealthCheckResponse:
        """The status now."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, "there is no such service")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def List(  # noqa: N802
        self,
        request: health_pb2.HealthListRequest,  # noqa: ARG002
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002
    ) -> health_pb2.HealthListResponse:
        """The status now, of all."""
        status = health_pb2.HealthCheckResponse(status=self._status)
        return health_pb2.HealthListResponse(statuses=dict.fromkeys(self._services, status))

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status now, and whenever it changes."""
        try:
            with self._watches.call(context):
                async for response in self._changes(request):
                    yield response
        except OverloadedError as error:
            await abort(context, error)

    async def _changes(
        self, request: health_pb2.HealthCheckRequest
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last: Status | None = None
        while True:
            has_changed, has_ended = self._has_changed, self._has_ended
            status = self._status if request.service in self._services else _UNKNOWN
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
                last = status
            if has_ended:
                return
            await has_changed.wait()

    def _wake(self) -> None:
        self._has_changed.set()
        self._has_changed = asyncio.Event()


class Reflection:
    """Tells which services there are."""

    def __init__(self, services: Iterable[str]) -> None:
        self._servicer = reflection.aio.ReflectionServicer(services)
        self._has_ended = asyncio.Event()
        self._streams = CallShares(MAX_REFLECTIONS)

    def end(self) -> None:
        """Ends the streams of all that ask."""
        self._has_ended.set()

    async def ServerReflectionInfo(  # noqa: N802
        self,
        request_iterator: AsyncIterator[reflection_pb2.ServerReflectionRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[reflection_pb2.ServerReflectionResponse]:
        """Answers to questions."""
        requests = _until(self._has_ended, request_iterator)
        try:
            with self._streams.call(context):
                async for answer in self._servicer.ServerReflectionInfo(requests, context):
                    yield answer
        except OverloadedError as error:
            await abort(context, error)


async def _until(event: asyncio.Event, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The requests, up to the event."""
    ending = asyncio.ensure_future(event.wait())
    reading: asyncio.Future[Any] | None = None
    try:
        while True:
            reading = asyncio.ensure_future(anext(requests, None))
            await asyncio.wait({reading, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() or (request := reading.result()) is None:
                return
            yield request
    finally:
        ending.cancel()
        if reading is not None:
            reading.cancel()
