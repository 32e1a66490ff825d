"""Is what should listen at an address away, loading or ready?"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from enum import Enum
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forethought.addresses import split_address
from forethought.configuration.store_url import socket_of_url

_TIMEOUT_S = 1.0

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # Without a pool of its own a new channel would inherit the back-off of the last attempt.
    ("grpc.use_local_subchannel_pool", 1),
)


class Readiness(Enum):
    """What a probe found."""

    AWAY = "away"  # nothing answers yet
    LOADING = "loading"  # it answers, and says that it is not ready
    READY = "ready"


Probe = Callable[[str], Awaitable[Readiness]]
"""Looks once at an address. Raises nothing for a tier that is away."""


async def probe_grpc_health(address: str) -> Readiness:
    """Asks grpc.health.v1 at `host:port` for the whole server's status."""
    async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return Readiness.AWAY
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    return Readiness.READY if serving else Readiness.LOADING


async def probe_http(address: str) -> Readiness:
    """Asks `/health` at `host:port` of the gateway."""
    host, port = split_address(address)
    status = await _first_line(asyncio.open_connection(host, port), b"GET /health HTTP/1.0\r\n\r\n")
    if status is None:
        return Readiness.AWAY
    return Readiness.READY if status.split()[1:2] == [b"200"] else Readiness.LOADING


async def probe_redis(url: str) -> Readiness:
    """Sends PING to a `redis://`, `rediss://` or `unix://` URL.

    Any answer in the protocol will do, "authentication required" included: this asks whether a
    server is there, not whether we may use it. "-LOADING" is not ready.
    """
    answer = await _first_line(_open_store(url), b"PING\r\n")
    if answer is None:
        return Readiness.AWAY
    if answer.startswith(b"-LOADING"):
        return Readiness.LOADING
    return Readiness.READY if answer[:1] in {b"+", b"-"} else Readiness.AWAY


async def _first_line(opening: Awaitable[_Connection], question: bytes) -> bytes | None:
    """The first line of an answer; None where nobody can be reached or answers in time."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await opening
            try:
                writer.write(question)
                return await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:  # a TimeoutError is one
        return None


async def _open_store(url: str) -> _Connection:
    if (path := socket_of_url(url)) is not None:
        return await asyncio.open_unix_connection(path)
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "rediss" else None
    return await asyncio.open_connection(parts.hostname, parts.port or 6379, ssl=tls)
