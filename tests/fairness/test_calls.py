"""How many calls and connections a server takes, whatever they ask."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from forethought.errors import OverloadedError
from forethought.rpc.calls.call_shares import CallShares
from forethought.rpc.connections.channels import CallerLimits, open_channel
from forethought.rpc.connections.open_files import KEPT, allow_open_files
from forethought.rpc.serving import health
from forethought.rpc.serving.server import Server
from forethought.rpc.serving.server_options import ServerOptions
from tests.errors.refusals import refusal_of
from tests.waiting import until


class From:
    """The context of a call from somewhere."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


def test_a_machine_has_three_quarters_of_all_calls_and_another_finds_room():
    shares, begun = CallShares(8), []

    def call(peer: str) -> None:
        call = shares.call(From(peer))
        call.__enter__()
        begun.append(call)

    for port in range(6):
        call(f"ipv4:10.0.0.1:{port}")
    with pytest.raises(OverloadedError):
        call("ipv4:10.0.0.1:99")
    call("ipv4:10.0.0.2:1")
    call("ipv6:[::1]:1")
    for each in begun:
        each.__exit__(None, None, None)
    call("ipv4:10.0.0.1:100")


@asynccontextmanager
async def serving(callers: CallerLimits | None = None) -> AsyncIterator[Server]:
    server = Server(ServerOptions("127.0.0.1:0", (), 1.0, callers=callers))
    await server.start()

    async def load(services):
        async def wait(raw, context):
            await asyncio.Event().wait()

        handlers = {"Wait": grpc.unary_unary_rpc_method_handler(wait, bytes, bytes)}
        services.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("a.Service", handlers),)
        )

    await server.load(load)
    try:
        yield server
    finally:
        await server.drain()


def watch(channel):
    return HealthStub(channel).Watch(health_pb2.HealthCheckRequest())


def reflection(channel):
    return ServerReflectionStub(channel).ServerReflectionInfo()


async def test_watches_of_one_machine_are_bounded_and_those_that_end_make_room(monkeypatch):
    monkeypatch.setattr(health, "MAX_WATCHES", 4)
    async with serving() as server, open_channel(f"127.0.0.1:{server.port}") as channel:
        watches = [watch(channel) for _ in range(3)]
        for each in watches:
            await each.read()
        assert (await refusal_of(watch(channel).read())).code == "RESOURCE_EXHAUSTED"
        assert await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        watches[0].cancel()
        await until(lambda: server._health._watches._shares.num_taken == 2)
        assert await watch(channel).read()


async def test_streams_of_reflection_of_one_machine_are_bounded(monkeypatch):
    monkeypatch.setattr(health, "MAX_REFLECTIONS", 4)
    async with serving() as server, open_channel(f"127.0.0.1:{server.port}") as channel:
        calls = [reflection(channel) for _ in range(3)]
        for each in calls:
            await each.write(reflection_pb2.ServerReflectionRequest(list_services=""))
            assert await each.read()
        assert (await refusal_of(reflection(channel).read())).code == "RESOURCE_EXHAUSTED"


async def test_calls_of_one_machine_are_bounded_where_callers_are_strangers():
    limits = CallerLimits(max_calls=4)
    async with serving(limits) as server, open_channel(f"127.0.0.1:{server.port}") as channel:
        wait = channel.unary_unary("/a.Service/Wait")
        calls = [wait(b"", timeout=20) for _ in range(3)]
        await until(lambda: server._running._num == 3)
        assert (await refusal_of(wait(b"", timeout=20))).code == "RESOURCE_EXHAUSTED"
        for call in calls:
            call.cancel()


async def test_connections_beyond_the_limit_are_closed_and_the_others_served():
    async with (
        serving(CallerLimits(max_connections=2)) as server,
        open_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        health_stub = HealthStub(channel)
        assert await health_stub.Check(health_pb2.HealthCheckRequest())
        others = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        ended = [each for each in others if not await _is_open(each)]
        assert len(ended) == 2
        assert await health_stub.Check(health_pb2.HealthCheckRequest())
        for each in others:
            each.close()


async def _is_open(connection: socket.socket) -> bool:
    """Whether a server speaks HTTP/2 there."""
    connection.settimeout(20)
    try:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        return bool(await asyncio.to_thread(connection.recv, 1))
    except ConnectionError:
        return False


def test_room_is_kept_for_files_that_are_no_connections(monkeypatch):
    limits = [(1024, 5000)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: limits.append(given))
    assert allow_open_files(2000) == 2000
    assert limits[-1] == (2000 + KEPT, 5000)
    assert allow_open_files(10_000) == 5000 - KEPT
    assert limits[-1] == (5000, 5000)
