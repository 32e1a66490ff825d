"""All routes, and what happens around each of them."""

import msgspec
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from forethought import __version__
from gateway.boundary import Boundary
from gateway.callers import WithKey
from gateway.openai.routes import OpenAIRoutes
from gateway.page.files import PageFiles
from gateway.reading import BodyReader
from gateway.responses.routes import ResponsesRoutes
from gateway.upstream import Upstream
from gateway.web.errors import HttpError
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
    paths: dict[object, str] = {each.endpoint: each.path for each in every}
    traced = tuple(each.path.partition("{")[0] for each in operations if each.is_for_callers)
    return Boundary(Router(every, redirect_slashes=False), paths, traced)
