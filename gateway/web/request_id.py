"""The name of a request: its header `X-Request-Id`, or one of ours."""

from uuid import uuid4

from starlette.requests import Request
from starlette.types import Scope

HEADER = "x-request-id"
_MAX_CHARS = 128
_KEY = "forethought.request_id"


def name_request(scope: Scope) -> str:
    """Gives a request its name, which goes to the orchestrator's log and back to the client."""
    given = dict(scope["headers"]).get(HEADER.encode(), b"").decode("latin-1").strip()
    is_usable = given.isascii() and given.isprintable() and 0 < len(given) <= _MAX_CHARS
    name: str = given if is_usable else uuid4().hex
    scope[_KEY] = name
    return name


def request_id_of(request: Request) -> str:
    """The name that it was given."""
    name: str = request.scope[_KEY]
    return name
