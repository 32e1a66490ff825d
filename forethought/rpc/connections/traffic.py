"""How many bytes of messages go through channels."""

from collections.abc import Callable
from typing import Any, cast

import grpc


class Traffic:
    """Bytes of messages, without what HTTP/2 adds, since the process began."""

    def __init__(self) -> None:
        self.num_sent = 0
        self.num_received = 0


def counted(channel: grpc.aio.Channel, traffic: Traffic) -> grpc.aio.Channel:
    """The channel, for the stubs whose messages are to be counted."""
    return cast("grpc.aio.Channel", _CountedChannel(channel, traffic))


class _CountedChannel:
    """Has all that a generated stub asks of a channel: the four kinds of calls."""

    def __init__(self, channel: grpc.aio.Channel, traffic: Traffic) -> None:
        self._traffic = traffic
        self.unary_unary = self._counting(channel.unary_unary)
        self.unary_stream = self._counting(channel.unary_stream)
        self.stream_unary = self._counting(channel.stream_unary)
        self.stream_stream = self._counting(channel.stream_stream)

    def _counting(self, make: Callable[..., Any]) -> Callable[..., Any]:
        traffic = self._traffic

        def made(
            method: str,
            request_serializer: Callable[[Any], bytes],
            response_deserializer: Callable[[bytes], Any],
            **options: Any,
        ) -> Any:
            def serialize(message: Any) -> bytes:
                data = request_serializer(message)
                traffic.num_sent += len(data)
                return data

            def deserialize(data: bytes) -> Any:
                traffic.num_received += len(data)
                return response_deserializer(data)

            return make(
                method,
                request_serializer=serialize,
                response_deserializer=deserialize,
                **options,
            )

        return made
