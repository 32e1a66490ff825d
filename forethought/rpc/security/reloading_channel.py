"""A channel whose next call has the certificates of today.

gRPC's own keeps those that it was made with. This one makes another when they have changed, and
leaves the one before to the calls that are under way on it: it is closed after the last of them.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Self, TypeAlias

import grpc

from forethought.rpc.security.tls import ChannelCredentials
from forethought.runtime.supervision import start

Open: TypeAlias = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


class _Generation:
    """A channel, and how many calls are under way on it."""

    def __init__(self, credentials: grpc.ChannelCredentials, channel: grpc.aio.Channel) -> None:
        self.credentials = credentials
        self.channel = channel
        self._num_calls = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def count(self, call: Any) -> None:
        """Takes note of a call."""
        self._num_calls += 1
        self._is_idle.clear()
        call.add_done_callback(self._uncount)

    def _uncount(self, _: Any) -> None:
        self._num_calls -= 1
        if not self._num_calls:
            self._is_idle.set()

    async def close_when_idle(self) -> None:
        """Closes the channel after the last of its calls."""
        await self._is_idle.wait()
        await self.channel.close()


class ReloadingChannel(grpc.aio.Channel):
    """Opens channels to one address. Belongs to one event loop.

    Args:
        credentials: as they are now.
        open_: a channel with those.
    """

    def __init__(self, credentials: ChannelCredentials, open_: Open) -> None:
        self._credentials = credentials
        self._open = open_
        now = credentials.get()
        self._now = _Generation(now, open_(now))
        self._before: dict[_Generation, asyncio.Task[None]] = {}

    def current(self) -> _Generation:
        """The channel for the next call."""
        credentials = self._credentials.get()
        if credentials is not self._now.credentials:
            before, self._now = self._now, _Generation(credentials, self._open(credentials))
            closing = start("farewell to a channel", before.close_when_idle())
            self._before[before] = closing
            closing.add_done_callback(lambda _: self._before.pop(before))
        return self._now

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Closes it with all its calls, after `grace` seconds."""
        channels = [generation.channel for generation in (*self._before, self._now)]
        await asyncio.gather(*(channel.close(grace) for channel in channels))

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002
        return self._now.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._now.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self.current().channel.channel_ready()

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return _Method(self, "stream_stream", args, kwargs)


class _Method:
    """A method of a service, on whichever channel there is when it is called."""

    def __init__(
        self, channel: ReloadingChannel, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._kind, self._args, self._kwargs = kind, args, kwargs
        self._made_for: _Generation | None = None
        self._method: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        generation = self._channel.current()
        if generation is not self._made_for:
            make = getattr(generation.channel, self._kind)
            self._made_for, self._method = generation, make(*self._args, **self._kwargs)
        call = self._method(*args, **kwargs)
        generation.count(call)
        return call
