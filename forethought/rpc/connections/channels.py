"""Client channels, and the settings of the connection that both of its ends need.

TCP alone does not tell a peer that thinks from one that froze or was cut off: nothing arrives from
either. Both ends therefore ping, the client to notice a lost tier, the server to free what it holds
for a lost client.
"""

from dataclasses import dataclass

import grpc

from forethought.rpc.connections.open_files import allow_open_files
from forethought.rpc.security.reloading_channel import ReloadingChannel
from forethought.rpc.security.tls import ChannelCredentials

MAX_MESSAGE_BYTES = 16 * 2**20
"""Largest message either side takes: a prompt of a few million tokens."""

MAX_CALLS = 4096
"""Under way at a server of strangers."""

_CONNECT_MS = 1000
_HANDSHAKE_MS = 3000
"""Time that an attempt to connect gets at least: until the server has said how it speaks HTTP/2, on
a busy machine. TLS takes three more ways there and back."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """How a peer that vanished without a word is found out.

    It says whether the peer's machine and gRPC's own threads live. A peer that computes for hours
    answers pings meanwhile, and one that hangs in its own code does so too: that needs a deadline.
    """

    interval_s: float = 10.0
    """Time without anything received after which a ping is sent. It is counted in whole intervals,
    so that a peer is pinged at most two of them after its last sign of life."""
    timeout_s: float = 10.0
    """Time to wait for the ping's answer before the connection counts as lost, and all calls on it
    end: at most 2 * interval_s + timeout_s after the peer fell silent, and a little."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What a server takes from callers that it does not know."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Largest message. A larger one is refused as soon as its length is read."""
    max_calls_per_connection: int = 1024
    """Further calls wait at the client."""
    max_calls: int = MAX_CALLS
    """Calls under way, of all connections. One machine may have three quarters."""
    max_connections: int = 15_000
    """Further ones are closed at once. Fewer are taken where the system allows fewer files. Each
    takes some 20 KB."""
    handshake_s: float = 10.0
    """Time that a connection gets to say that it speaks HTTP/2."""
    max_idle_s: float = 300.0
    """A connection without calls is closed after this time; gRPC opens another one when needed."""


def caller_limit_options(limits: CallerLimits) -> list[tuple[str, int]]:
    """gRPC's options for a server.

    A message is received piece by piece, and no piece is asked for before the server wants it: a
    window that grows with the connection's speed would hold many megabytes of every connection.
    """
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", 64 * 2**10),
        ("grpc.max_concurrent_streams", limits.max_calls_per_connection),
        ("grpc.max_allowed_incoming_connections", allow_open_files(limits.max_connections)),
        ("grpc.server_handshake_timeout_ms", round(limits.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", round(limits.max_idle_s * 1000)),
    ]


def keep_alive_options(keep_alive: KeepAlive) -> list[tuple[str, int]]:
    """gRPC's options for either end of a connection."""
    timeout_ms = round(keep_alive.timeout_s * 1000)
    return [
        ("grpc.keepalive_time_ms", round(keep_alive.interval_s * 1000)),
        ("grpc.keepalive_timeout_ms", timeout_ms),
        # Every ping has a timeout of its own besides: a minute, unless told.
        ("grpc.http2.ping_timeout_ms", timeout_ms),
        # A session may be silent for as long as it likes.
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    address: str,
    keep_alive: KeepAlive | None = None,
    credentials: ChannelCredentials | None = None,
    server_name: str = "",
) -> grpc.aio.Channel:
    """A channel to `address` (`host:port` or any gRPC target). Connects when first used.

    Args:
        address: whom to call.
        keep_alive: how it is noticed that nobody is there any more.
        credentials: for TLS; None speaks plain text.
        server_name: that the server's certificate must bear, where it is not the address's host.
    """
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        *keep_alive_options(keep_alive or KeepAlive()),
        # A tier that comes back should be found soon, not after gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Despite its name the time of an attempt, not between two.
        ("grpc.min_reconnect_backoff_ms", _CONNECT_MS if credentials is None else _HANDSHAKE_MS),
        ("grpc.max_reconnect_backoff_ms", 3000),
        # Tiers are neighbours; a proxy for the outside world has no business between them.
        ("grpc.enable_http_proxy", 0),
        # Every client gets connections of its own, so that closing one is local.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=options)
    if server_name:
        options.append(("grpc.ssl_target_name_override", server_name))
    return ReloadingChannel(
        credentials, lambda now: grpc.aio.secure_channel(address, now, options=options)
    )
