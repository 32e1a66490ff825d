"""A channel whose calls show an API key, and belong to the trace at hand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import grpc

from forethought.errors import InvalidArgumentError
from forethought.observability.traces import outgoing

_on_behalf: ContextVar[str | None] = ContextVar("on_behalf", default=None)


@contextmanager
def calling_with_key(api_key: str) -> Iterator[None]:
    """Has all calls made within show this key instead of their client's; empty: none.

    For who passes on calls of others, each with the key that it came with. Tasks that are begun
    within belong to it too.

    Raises:
        InvalidArgumentError: it could not be sent.
    """
    token = _on_behalf.set(check_api_key(api_key))
    try:
        yield
    finally:
        _on_behalf.reset(token)


def authorized(channel: grpc.aio.Channel, api_key: str) -> grpc.aio.Channel:
    """The channel, for stubs whose calls show a key; empty: none, unless `calling_with_key`."""
    return cast("grpc.aio.Channel", _AuthorizedChannel(channel, api_key))


def check_api_key(api_key: str) -> str:
    """The key without the spaces around it.

    Raises:
        InvalidArgumentError: it could not be sent.
    """
    key = api_key.strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise InvalidArgumentError({"api_key": "has characters that no key has"})
    return key


class _AuthorizedChannel:
    """Has all that a generated stub asks of a channel: the four kinds of calls."""

    def __init__(self, channel: grpc.aio.Channel, api_key: str) -> None:
        self._api_key = api_key
        self.unary_unary = self._showing(channel.unary_unary)
        self.unary_stream = self._showing(channel.unary_stream)
        self.stream_unary = self._showing(channel.stream_unary)
        self.stream_stream = self._showing(channel.stream_stream)

    def _showing(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            method = make(*arguments, **options)

            def call(*arguments: Any, metadata: Any = (), **options: Any) -> Any:
                given = _on_behalf.get()
                key = self._api_key if given is None else given
                shown = (("authorization", f"Bearer {key}"),) if key else ()
                return method(*arguments, metadata=(*metadata, *shown, *outgoing()), **options)

            return call

        return made
