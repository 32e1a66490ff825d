"""A channel whose calls show an API key."""

from collections.abc import Callable
from typing import Any, cast

import grpc

from forethought.errors import InvalidArgumentError


def authorized(channel: grpc.aio.Channel, api_key: str) -> grpc.aio.Channel:
    """The channel, for stubs whose calls show a key; as it is where there is none."""
    if not api_key:
        return channel
    return cast("grpc.aio.Channel", _AuthorizedChannel(channel, f"Bearer {api_key}"))


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

    def __init__(self, channel: grpc.aio.Channel, authorization: str) -> None:
        self._metadata = (("authorization", authorization),)
        self.unary_unary = self._showing(channel.unary_unary)
        self.unary_stream = self._showing(channel.unary_stream)
        self.stream_unary = self._showing(channel.stream_unary)
        self.stream_stream = self._showing(channel.stream_stream)

    def _showing(self, make: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **options: Any) -> Any:
            method = make(*arguments, **options)

            def call(*arguments: Any, metadata: Any = (), **options: Any) -> Any:
                return method(*arguments, metadata=(*metadata, *self._metadata), **options)

            return call

        return made
