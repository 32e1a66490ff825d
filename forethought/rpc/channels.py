"""Client channels, and the settings of the connection that both of its ends need.

TCP alone does not tell a peer that thinks from one that froze or was cut off: nothing arrives from
either. Both ends therefore ping, the client to notice a lost tier, the server to free what it holds
for a lost client.
"""

from dataclasses import dataclass

import grpc

MAX_MESSAGE_BYTES = 16 * 2**20
"""Largest message either side takes: a prompt of a few million tokens."""


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


def open_channel(address: str, keep_alive: KeepAlive | None = None) -> grpc.aio.Channel:
    """A channel to `address` (`host:port` or any gRPC target). Connects when first used."""
    keep_alive = keep_alive or KeepAlive()
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            *keep_alive_options(keep_alive),
            # A tier that comes back should be found soon, not after gRPC's two minutes.
            ("grpc.initial_reconnect_backoff_ms", 200),
            ("grpc.min_reconnect_backoff_ms", 200),
            ("grpc.max_reconnect_backoff_ms", 3000),
            # Tiers are neighbours; a proxy for the outside world has no business between them.
            ("grpc.enable_http_proxy", 0),
            # Every client gets connections of its own, so that closing one is local.
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )
