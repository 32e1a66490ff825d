"""A server that drains waits for work, and for nothing that has no end."""

import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from forethought.rpc.connections.channels import open_channel
from forethought.rpc.serving.server import Server, ServerOptions
from tests.waiting import until

GRACE_S = 60.0
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def may_end():
    return asyncio.Event()


@pytest.fixture
async def server(may_end):
    """With one method, whose calls end when they may."""

    async def work(_request, _context):
        await may_end.wait()
        return b"done"

    handler = grpc.method_handlers_generic_handler(
        "a.Service", {"Work": grpc.unary_unary_rpc_method_handler(work, bytes, bytes)}
    )

    async def load(services):
        services.add_generic_rpc_handlers((handler,))

    server = Server(ServerOptions("127.0.0.1:0", ("a.Service",), GRACE_S))
    await server.start()
    await server.load(load)
    yield server
    may_end.set()
    await server.drain()


@pytest.fixture
async def channel(server):
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


async def statuses(call):
    found = []
    while (answer := await call.read()) is not grpc.aio.EOF:
        found.append(answer.status)
    return found


async def test_watchers_of_health_are_told_and_not_waited_for(server, channel):
    names = ("", "a.Service", "no.such.Service")
    calls = [
        HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name)) for name in names
    ]
    first = [(await call.read()).status for call in calls]
    assert first == [SERVING, SERVING, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN]
    await asyncio.wait_for(server.drain(), GRACE_S / 2)
    assert await asyncio.gather(*map(statuses, calls)) == [[NOT_SERVING], [NOT_SERVING], []]


async def test_open_questions_about_services_are_not_waited_for(server, channel):
    call = ServerReflectionStub(channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {each.name for each in (await call.read()).list_services_response.service}
    assert "a.Service" in names
    await asyncio.wait_for(server.drain(), GRACE_S / 2)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_work_is_waited_for_and_health_answers_meanwhile(server, channel, may_end):
    working = channel.unary_unary("/a.Service/Work")(b"", timeout=GRACE_S)
    await until(lambda: not server._running._is_idle.is_set())
    watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    draining = asyncio.create_task(server.drain())
    assert await statuses(watch) == [NOT_SERVING]
    # Who asks again is told the same.
    assert await statuses(HealthStub(channel).Watch(health_pb2.HealthCheckRequest())) == [
        NOT_SERVING
    ]
    answer = await HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == NOT_SERVING
    assert not draining.done()
    may_end.set()
    assert await working == b"done"
    await asyncio.wait_for(draining, GRACE_S / 2)


async def test_a_service_that_is_not_there_has_no_health(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
