"""All routes, and what happens around each of them."""

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from forethought import __version__
from forethought.errors import ForethoughtError
from gateway.boundary import Boundary
from gateway.callers import WithKey
from gateway.openai.routes import OpenAIRoutes
from gateway.page.files import PageFiles
from gateway.reading import BodyReader
from gateway.responses.routes import ResponsesRoutes
from gateway.upstream import Upstream
from gateway.web.errors import HttpError, from_forethought
from gateway.web.operations import Operation, document, routes
from gateway.web.responses import as_json


class Version(msgspec.Struct, frozen=True):
    """Of the gateway."""

    version: str


def make_app(upstream: Upstream, max_body_bytes: int) -> Boundary:
    """The gateway as an ASGI application."""
    reader = BodyReader(upstream, max_body_bytes)

    async def health(request: Request) -> Response:  # noqa: ARG001
        if why := upstream.why_not_ready:
            raise HttpError(503, why, code="unavailable", headers={"Retry-After": "1"})
        return Response()

    async def version(request: Request) -> Response:  # noqa: ARG001
        return as_json(Version(__version__))

    operations = [
        *OpenAIRoutes(reader).operations(),
        *ResponsesRoutes(reader).operations(),
        Operation("GET", "/health", health, "Whether requests can be served", is_for_callers=False),
        Operation(
            "GET", "/version", version, "Of the gateway", answer=Version, is_for_callers=False
        ),
    ]
    described = as_json(document(operations, needs_key=upstream.has_keys))

    async def openapi(request: Request) -> Response:  # noqa: ARG001
        return described

    with_key = Middleware(WithKey, needs_key=upstream.has_keys)
    every = [
        *routes(operations, [with_key]),
        Route("/openapi.json", openapi),
        *PageFiles().routes(),
    ]
    handlers = {HttpError: _answer, ForethoughtError: _answer, HTTPException: _answer}
    paths: dict[object, str] = {each.endpoint: each.path for each in every}
    traced = tuple(each.path.partition("{")[0] for each in operations if each.is_for_callers)
    return Boundary(Starlette(routes=every, exception_handlers=handlers), paths, traced)


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
