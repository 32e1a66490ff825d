"""All routes, and what happens around each of them."""

import time
from uuid import uuid4

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forethought import __version__
from forethought.errors import ForethoughtError
from gateway.openai.routes import OpenAIRoutes
from gateway.reading import BodyReader
from gateway.responses.routes import ResponsesRoutes
from gateway.upstream import Upstream
from gateway.web.errors import HttpError, from_forethought
from gateway.web.operations import Operation, document, routes
from gateway.web.request_id import HEADER, name_request
from gateway.web.responses import as_json
from gateway.web.streaming import ClientGoneError

_log = structlog.get_logger(__name__)
_GONE = 499  # what servers note where nobody waited for an answer


class Version(msgspec.Struct, frozen=True):
    """Of the gateway."""

    version: str


def make_app(upstream: Upstream, max_body_bytes: int) -> ASGIApp:
    """The gateway as an ASGI application."""
    reader = BodyReader(upstream, max_body_bytes)

    async def health(request: Request) -> Response:  # noqa: ARG001
        if why := upstream.why_not_ready:
            raise HttpError(503, why, code="unavailable", headers={"Retry-After": "1"})
        return Response()

    async def version(request: Request) -> Response:  # noqa: ARG001
        return as_json(Version(__version__))

    operations = [
        *OpenAIRoutes(upstream, reader).operations(),
        *ResponsesRoutes(upstream, reader).operations(),
        Operation("GET", "/health", health, "Whether requests can be served"),
        Operation("GET", "/version", version, "Of the gateway", answer=Version),
    ]
    described = as_json(document(operations))

    async def openapi(request: Request) -> Response:  # noqa: ARG001
        return described

    every = [*routes(operations), Route("/openapi.json", openapi)]
    handlers = {HttpError: _answer, ForethoughtError: _answer, HTTPException: _answer}
    return Boundary(Starlette(routes=every, exception_handlers=handlers))


async def _answer(request: Request, error: Exception) -> Response:
    """The answer that an error is."""
    match error:
        case ForethoughtError():
            told = from_forethought(error)
        case HTTPException():
            what = f"there is no {request.method} {request.url.path} here"
            code = "method_not_allowed" if error.status_code == 405 else "not_found"
            told = HttpError(error.status_code, what, code=code, headers=error.headers)
        case HttpError():
            told = error
        case _:
            raise error
    return Response(told.body(), told.status, headers=told.headers, media_type="application/json")


class Boundary:
    """Names each request, logs its end, and answers where an endpoint fails."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = name_request(scope)
        began = time.perf_counter()
        status = 0

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
        except Exception:  # noqa: BLE001 - whatever it is, it is a fault of ours and not the end
            incident = uuid4().hex
            _log.exception("request_failed", request_id=name, incident=incident)
            if not status:
                error = HttpError(500, f"a fault of the gateway, {incident} in its log")
                answer = Response(error.body(), error.status, media_type="application/json")
                await answer(scope, receive, send_named)
        finally:
            _log.info(
                "request",
                request_id=name,
                method=scope["method"],
                path=scope["path"],
                status=status,
                duration_s=round(time.perf_counter() - began, 4),
            )
