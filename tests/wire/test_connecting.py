"""How long an attempt to connect may take, and what is said of one that fails."""

import socket
import time

import grpc
import pytest

from forethought.rpc.connections import channels
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.handshake import describe_handshake

FAILED = "failed to connect to all addresses; last error: UNAVAILABLE: ipv4:127.0.0.1:80: "


async def test_an_attempt_to_connect_has_its_time_and_not_that_between_two_attempts(monkeypatch):
    monkeypatch.setattr(channels, "_CONNECT_MS", 500)
    # The system takes the connection, and nobody behind it speaks HTTP/2.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with open_channel(f"127.0.0.1:{silent.getsockname()[1]}") as channel:
            began = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/no/such")(b"", timeout=30)
            assert time.monotonic() - began > 0.45
    assert "timed out before receiving SETTINGS" in (caught.value.details() or "")


@pytest.mark.parametrize(
    "end",
    [
        "recvmsg:Connection reset by peer (104)",
        "Failed to connect to remote host: getsockopt(SO_ERROR): Connection reset by peer",
        "Failed to connect to remote host: Connection refused",
        "connection attempt timed out before receiving SETTINGS frame",
    ],
)
def test_of_a_server_that_restarts_nobody_says_that_it_wants_tls(end):
    assert not describe_handshake(FAILED + end)


def test_a_port_that_reads_and_then_closes_may_be_one_for_tls():
    assert "as a port for TLS does" in describe_handshake(FAILED + "Socket closed")
