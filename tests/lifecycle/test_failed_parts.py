"""A process that cannot serve any more says so at once, and ends."""

import asyncio
import signal
import sys
from contextlib import suppress

import grpc
import pytest
import structlog
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from forethought.errors import ForethoughtError, ReplicaFailedError
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.rpc.status import error_from_rpc
from forethought.runtime.supervision import Failure, keep_running, start
from forethought.v1 import common_pb2, target_pb2
from forethought.v1.target_pb2_grpc import TargetServiceStub
from tests.lifecycle.processes import PATIENCE_S, TierProcess
from tests.lifecycle.test_processes import is_serving
from tests.waiting import until

SAMPLING = common_pb2.SamplingParams(temperature=1, top_p=1, repetition_penalty=1)
OPEN = target_pb2.VerifyRequest(
    open=common_pb2.SessionOpen(session_id="s", token_ids=[3, 4, 5], sampling=SAMPLING)
)
ROUND = target_pb2.VerifyRequest(round=target_pb2.VerifyRound(round=1, position=3))


class FailingTarget(TierProcess):
    """See `failing_target.py`."""

    def __init__(self, way, model, log):
        engine = ["--dtype", "float32", "--device", "cpu", "--num-threads", "1"]
        super().__init__("target_service", [], log)
        self._command = [sys.executable, "-m", "tests.lifecycle.failing_target", way]
        self._command += ["--listen", self.address, "--model", str(model), *engine]


async def one_round(stub):
    """Whether a round was answered; raises what was said instead."""
    call = stub.Verify(timeout=PATIENCE_S)
    try:
        await call.write(OPEN)
        await call.read()
        await call.write(ROUND)
        answer = await call.read()
    except grpc.aio.AioRpcError as error:
        raise error_from_rpc(error) from None
    if answer is grpc.aio.EOF:
        raise ReplicaFailedError(await call.details())
    return answer.HasField("evidence")


@pytest.mark.parametrize("way", ["choosing", "passes"])
async def test_a_target_whose_engine_fails_says_so_and_ends(way, tiny_target_folder, tmp_path):
    target = FailingTarget(way, tiny_target_folder, tmp_path / "log")
    target.start()
    try:
        await until(lambda: is_serving(target), PATIENCE_S)
        async with open_channel(target.address) as channel:
            stub = TargetServiceStub(channel)
            assert await one_round(stub)
            watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            target.signal(signal.SIGUSR1)
            while "part_failed" not in target.log():
                # Each of them is answered or refused, and none hangs.
                with suppress(ForethoughtError, asyncio.InvalidStateError):
                    await asyncio.wait_for(one_round(stub), PATIENCE_S)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await asyncio.to_thread(target.wait) == 1
        assert "MemoryError" in target.log()
    finally:
        target.kill()


async def test_a_failure_closes_the_gate_and_turns_health():
    failure = Failure("heart")

    async def load(services):
        services.failures.append(failure)

    server = Server(ServerOptions("127.0.0.1:0", ("a.Service",), drain_grace_s=600))
    await server.start()
    await server.load(load)
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        watch = HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="a.Service"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await asyncio.to_thread(failure.happened, MemoryError())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await asyncio.wait_for(server.failed, 60) is failure
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary("/a.Service/Ask")(b"", timeout=60)
        assert isinstance(error_from_rpc(caught.value), ReplicaFailedError)
        await asyncio.wait_for(server.drain(), 60)


async def test_a_part_that_failed_while_it_was_loaded_counts_too():
    failure = Failure("heart")

    async def load(services):
        services.failures.append(failure)
        failure.happened(ValueError())

    server = Server(ServerOptions("127.0.0.1:0", ()))
    await server.start()
    await server.load(load)
    assert await asyncio.wait_for(server.failed, 60) is failure
    await server.drain()


async def test_a_task_that_fails_begins_again(monkeypatch):
    monkeypatch.setattr("forethought.runtime.supervision.FIRST_PAUSE_S", 0.001)
    errors = [ValueError(), asyncio.CancelledError(), MemoryError(), BaseException("a panic")]

    async def work():
        if errors:
            raise errors.pop()

    await asyncio.wait_for(keep_running("work", work), 60)
    assert not errors


async def test_a_task_that_is_cancelled_ends():
    task = keep_running("work", asyncio.Event().wait)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)


async def test_a_task_that_nobody_awaits_is_logged_by_its_name():
    async def work():
        raise ValueError("no good")

    with structlog.testing.capture_logs() as logs:
        start("a task of ours", work())
        await until(lambda: logs)
    assert [each["task"] for each in logs] == ["a task of ours"]
