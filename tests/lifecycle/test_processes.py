"""The tiers as they run in earnest: one process each, signals and all."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from forethought.client import GenerationClient
from forethought.rpc.codecs.generation.request import request_to_proto
from forethought.rpc.connections.channels import open_channel
from forethought.runtime.openmp import NUM_SPINS
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub
from tests.errors.refusals import read_refusal
from tests.lifecycle.processes import PATIENCE_S, Processes, TierProcess
from tests.lifecycle.requests import GREEDY, SEEDED, asking
from tests.lifecycle.test_cancellation import NARROW
from tests.stack import LoadedModel, generate, running_stack
from tests.waiting import NOTHING_HELD, draft_load, target_load, until

SERVICES = {
    "orchestrator": "forethought.v1.GenerationService",
    "draft": "forethought.v1.DraftService",
    "target": "forethought.v1.TargetService",
}
LONG_ANSWER = asking(GREEDY, max_tokens=300, logprobs=12)


@pytest.fixture(scope="module")
def started(
    long_target_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processes]:
    """The processes, just started."""
    processes = Processes(long_target_folder, tmp_path_factory.mktemp("logs"))
    processes.start()
    yield processes
    processes.kill()


@pytest.fixture
async def processes(started: Processes) -> Processes:
    """The processes, all of them serving."""
    started.start()
    for tier in started.all:
        await until(lambda tier=tier: is_serving(tier), PATIENCE_S)
    return started


@pytest.fixture
async def client(processes):
    async with GenerationClient(processes.orchestrator.address) as client:
        yield client


async def health_of(tier: TierProcess, service: str = "") -> str:
    """What its health service says; empty where nobody answers."""
    async with open_channel(tier.address) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = await HealthStub(channel).Check(request, timeout=5)
        except grpc.aio.AioRpcError:
            return ""
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


async def is_serving(tier: TierProcess) -> bool:
    assert tier.process.poll() is None, tier.log()
    return await health_of(tier) == "SERVING"


@asynccontextmanager
async def a_stalled_stream(processes):
    """A stream that cannot end, since its client does not read; with what it has read so far."""
    address = processes.orchestrator.address
    async with grpc.aio.insecure_channel(address, options=NARROW) as channel:
        stub = GenerationServiceStub(channel)
        call = stub.Generate(request_to_proto(LONG_ANSWER), timeout=PATIENCE_S)
        first = [await call.read() for _ in range(20)]
        yield call, first
        call.cancel()


async def read_text(call, first):
    """The whole text of an answer, and its end."""
    messages = list(first)
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    assert await call.code() is grpc.StatusCode.OK
    text = "".join(token.text for message in messages for token in message.tokens)
    return text, messages[-1].finished


async def is_unavailable(client):
    """Whether a new request is refused as it should be."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client._stubs[0].Generate(request_to_proto(asking()), timeout=20).read()
    code = caught.value.code()
    # In the moment in which a server stops to listen, gRPC cancels what is on its way.
    assert code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    return code is grpc.StatusCode.UNAVAILABLE


async def text_alone(client):
    answer = await generate(client, asking(LONG_ANSWER.params, num_speculative_tokens=0))
    return answer.text


# The first test: it sees the processes start.
async def test_health_says_not_serving_until_the_model_is_warm(started):
    for name in ("target", "orchestrator"):
        tier = getattr(started, name)
        seen = await until(lambda tier=tier: health_of(tier), PATIENCE_S)
        assert seen == "NOT_SERVING", name
        assert await health_of(tier, SERVICES[name]) == "NOT_SERVING"
    async with open_channel(started.target.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await target_load(TargetServiceStub(channel))
    assert read_refusal(caught.value).reason == "LOADING"
    for name, service in SERVICES.items():
        tier = getattr(started, name)
        await until(lambda tier=tier: is_serving(tier), PATIENCE_S)
        assert await health_of(tier, service) == "SERVING"


@pytest.mark.parametrize("name", SERVICES)
async def test_reflection_lists_the_services(processes, name):
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async with open_channel(getattr(processes, name).address) as channel:
        call = ServerReflectionStub(channel).ServerReflectionInfo(iter([request]), timeout=20)
        answers = [answer async for answer in call]
    listed = {service.name for service in answers[0].list_services_response.service}
    ours = {SERVICES[name], "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    if name == "orchestrator":
        ours |= {"forethought.v1.DeploymentService", "forethought.v1.ScalingService"}
    assert listed == ours


async def test_an_orchestrator_runs_without_torch(processes, client):
    await generate(client, asking(SEEDED))
    maps = processes.orchestrator.maps()
    assert "cygrpc" in maps  # so this would see a library
    assert "torch" not in maps


@pytest.mark.parametrize("package", ["target_service", "draft_service"])
async def test_threads_that_compute_spin_as_long_as_is_good_for_a_neighbour(
    package, long_target_folder, tmp_path, monkeypatch
):
    """OpenMP reads it when it is loaded: whoever says it later says it in vain."""
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    arguments = ("--model", str(long_target_folder), "--dtype", "float32")
    tier = TierProcess(package, arguments, tmp_path / "tier.log")
    tier.start()
    try:
        await until(lambda: "GOMP_SPINCOUNT" in tier.log(), PATIENCE_S)
        assert f"GOMP_SPINCOUNT = '{NUM_SPINS}'" in tier.log()
    finally:
        tier.kill()


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        ("orchestrator, orchestrator.__main__", ("torch", "transformers")),
        ("forethought.client", ("torch", "transformers", "redis")),
        ("draft_service.__main__", ("torch", "transformers", "redis")),
    ],
)
def test_importing_what_has_no_model_imports_no_torch(modules, heavy):
    program = f"import {modules}, sys; print({set(heavy)} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"


async def test_a_finished_request_leaves_nothing_on_the_tiers(processes, client):
    await generate(client, asking(SEEDED))
    async with (
        open_channel(processes.draft.address) as draft,
        open_channel(processes.target.address) as target,
    ):
        stubs = DraftServiceStub(draft), TargetServiceStub(target)

        async def is_free():
            return (await draft_load(stubs[0]), await target_load(stubs[1])) == (
                NOTHING_HELD,
                NOTHING_HELD,
            )

        await until(is_free)


async def test_a_draft_process_that_is_killed_in_the_stream_changes_no_text(processes, client):
    async with a_stalled_stream(processes) as (call, first):
        processes.draft.signal(signal.SIGKILL)
        assert processes.draft.wait() == -signal.SIGKILL
        text, finished = await read_text(call, first)
        expected = await text_alone(client)
    assert text == expected
    assert finished.num_output_tokens == 300
    assert finished.speculation.num_draft_tokens > 0
    assert finished.speculation.num_draft_failures > 0


async def test_the_same_seed_gives_the_same_text_in_every_process(
    processes, long_target: LoadedModel
):
    """Again in the same processes, after a restart of all of them, and in this process."""
    answers = await seeded_answers(processes)
    processes.kill()
    processes.start()
    for tier in processes.all:
        await until(lambda tier=tier: is_serving(tier), PATIENCE_S)
    answers += await seeded_answers(processes)
    async with running_stack(long_target, long_target.proposer(max_support=32)) as stack:
        answers.append(await generate(stack.client, asking(SEEDED)))
    assert len({answer.text for answer in answers}) == 1
    assert all(answer.finished.speculation.num_draft_tokens for answer in answers)


async def seeded_answers(processes):
    """The same request twice, each with a draft in every round: one without draws otherwise."""
    async with GenerationClient(processes.orchestrator.address) as client:

        async def speculated():
            answer = await generate(client, asking(SEEDED))
            return None if answer.finished.speculation.num_draft_failures else answer

        return [await until(speculated, PATIENCE_S) for _ in range(2)]


BLOCKED_LOAD = """
import asyncio, threading
from forethought.rpc.serving.server import ServerOptions, run_process, run_server
from forethought.telemetry import LogFormat, configure_logging

async def serve():
    await run_server(ServerOptions("127.0.0.1:0", ()), lambda _: asyncio.to_thread(LOAD))

def LOAD():
    print("loading", flush=True)
    threading.Event().wait()

configure_logging(LogFormat.JSON)
run_process(serve())
"""


def test_sigterm_ends_a_process_whose_model_is_still_loading():
    with subprocess.Popen(
        [sys.executable, "-c", BLOCKED_LOAD], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout.readline() == b"loading\n"
            process.send_signal(signal.SIGTERM)
            _, log = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert b'"stopped"' in log


# The last test: nothing runs after it.
async def test_sigterm_lets_a_stream_finish_refuses_new_ones_and_exits_with_0(processes, client):
    expected = await text_alone(client)
    async with a_stalled_stream(processes) as (call, first):
        for tier in processes.all:
            tier.signal(signal.SIGTERM)
        for tier in processes.all:
            await until(lambda tier=tier: '"draining"' in tier.log())
        await until(lambda: is_unavailable(client))
        assert processes.orchestrator.process.poll() is None
        text, _ = await read_text(call, first)
    assert text == expected
    assert [tier.wait() for tier in processes.all] == [0, 0, 0]
