"""Who calls: each request shows orchestrators the API key that it came with, and no other."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from forethought.client import calling_with_key
from forethought.errors import InvalidArgumentError, UnauthenticatedError
from forethought.rpc.calls.authorized import check_api_key

_SCHEME = "bearer"
_MAX_CHARS = 512  # more than any key has, and less than gRPC refuses to carry


class WithKey:
    """Has all that a route asks of orchestrators show the key of its request.

    Args:
        app: the route.
        needs_key: whether orchestrators want one.

    Raises:
        UnauthenticatedError: on a call, the request has none and needs one.
    """

    def __init__(self, app: ASGIApp, *, needs_key: bool) -> None:
        self._app = app
        self._needs_key = needs_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key_of(Headers(scope=scope))
        if self._needs_key and not key:
            raise UnauthenticatedError("an API key is missing: send Authorization: Bearer KEY")
        with calling_with_key(key):
            await self._app(scope, receive, send)


def _key_of(headers: Headers) -> str:
    """Empty where there is none that could be a key."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() != _SCHEME or len(key) > _MAX_CHARS:
        return ""
    try:
        return check_api_key(key)
    except InvalidArgumentError:
        return ""
