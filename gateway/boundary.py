"""What happens around each request."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from uuid import uuid4

import structlog
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forethought.errors import ForethoughtError
from forethought.observability import traces
from gateway.metrics import HttpMetrics
from gateway.web.errors import HttpError, from_forethought, stopping
from gateway.web.request_id import HEADER, name_request
from gateway.web.streaming import ClientGoneError

_log = structlog.get_logger(__name__)
_GONE = 499  # what servers note where nobody waited for an answer
_NO_ROUTE = "none"


class Boundary:
    """Names each request, notes its end, and answers where an endpoint fails.

    Args:
        app: what is within.
        paths: of its endpoints, for metrics and traces.
        traced: how the paths begin whose requests are traced.
    """

    def __init__(
        self, app: ASGIApp, paths: Mapping[object, str], traced: tuple[str, ...] = ()
    ) -> None:
        self._app = app
        self._traced = traced
        self._paths = paths
        self.metrics = HttpMetrics()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # has routers raise what they refuse
        with self._span(scope):
            await self._named(scope, receive, send)

    def _span(self, scope: Scope) -> AbstractContextManager[None]:
        """Of a request that is for callers."""
        if not (traces.is_on() and scope["path"].startswith(self._traced)):
            return traces.OFF
        headers = {key.decode(): value.decode("latin-1") for key, value in scope["headers"]}
        method = {"http.request.method": scope["method"]}
        return traces.server_span(scope["method"], headers, method, is_root=True)

    async def _named(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = name_request(scope)
        began = time.perf_counter()
        status = 0
        self.metrics.begin()

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (HEADER.encode(), name.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientGoneError:
            status = _GONE
        except asyncio.CancelledError:
            # The server does so when it ends before the request, whose task this is.
            if not status:
                await _respond(stopping(), scope, receive, send_named)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is not the end
            told = _told(error, scope)
            if told is None or status:
                incident = uuid4().hex
                _log.exception("request_failed", request_id=name, incident=incident)
                what = f"a fault of the gateway, {incident} in its log"
                told = HttpError(500, what, code="internal")
            if not status:
                await _respond(told, scope, receive, send_named)
        finally:
            duration_s = time.perf_counter() - began
            route = self._paths.get(scope.get("endpoint"), _NO_ROUTE)
            status = status or _GONE
            self.metrics.end(route, status, duration_s)
            if traces.is_on():
                _note_end(scope["method"], route, status)
            _log.info(
                "request",
                request_id=name,
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_s=round(duration_s, 4),
            )


def _told(error: Exception, scope: Scope) -> HttpError | None:
    """What a client is told of an error; None: it is a fault of ours."""
    match error:
        case HttpError():
            return error
        case ForethoughtError():
            return from_forethought(error)
        case HTTPException():
            what = f"there is no {scope['method']} {scope['path']} here"
            code = "method_not_allowed" if error.status_code == 405 else "not_found"
            return HttpError(error.status_code, what, code=code, headers=error.headers)
        case _:
            return None


async def _respond(error: HttpError, scope: Scope, receive: Receive, send: Send) -> None:
    answer = Response(
        error.body(), error.status, headers=error.headers, media_type="application/json"
    )
    await answer(scope, receive, send)


def _note_end(method: str, route: str, status: int) -> None:
    traces.note_span(
        {"http.route": route, "http.response.status_code": status}, f"{method} {route}"
    )
    if status >= 400:
        traces.note_failure(str(status), is_ours=status >= 500)
