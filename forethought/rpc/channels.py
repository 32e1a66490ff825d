"""Client channels with the settings that long-lived streams need."""

from dataclasses import dataclass

import grpc

MAX_MESSAGE_BYTES = 16 * 2**20
"""Largest message either side takes: a prompt of a few million tokens."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """How a silent peer is found out. The sum of both is the longest it can go unnoticed."""

    interval_s: float = 20.0
    """Time without traffic after which a ping is sent."""
    timeout_s: float = 10.0
    """Time to wait for the ping's answer before the connection counts as lost."""


def open_channel(address: str, keep_alive: KeepAlive | None = None) -> grpc.aio.Channel:
    """A channel to `address` (`host:port` or any gRPC target). Connects when first used."""
    keep_alive = keep_alive or KeepAlive()
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", round(keep_alive.interval_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(keep_alive.timeout_s * 1000)),
            ("grpc.http2.max_pings_without_data", 0),
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
