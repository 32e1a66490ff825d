"""Two orchestrators as processes, one of which is killed or drained in the middle of an answer."""

import signal
from dataclasses import replace

import pytest

from forethought.client import GenerationClient
from forethought.generation import SessionStatus, Token
from tests.lifecycle.conftest import long_target_folder
from tests.lifecycle.processes import PATIENCE_S, Processes, TierProcess
from tests.lifecycle.test_processes import is_serving
from tests.sessions.deployments import ALL_MODES, TENANT, asking
from tests.stack import generate
from tests.waiting import until

__all__ = ["long_target_folder"]

NUM_TOKENS = 400


@pytest.fixture(scope="module")
def processes(long_target_folder, shared_server, tmp_path_factory):
    """A target, a draft and an orchestrator, and a second orchestrator; all with one store."""
    logs = tmp_path_factory.mktemp("logs")
    processes = Processes(long_target_folder, logs)
    first = processes.orchestrator
    first._command += ["--redis-url", shared_server.url, "--drain-grace-s", "0"]
    second = TierProcess("orchestrator", [], logs / "second.log")
    listen = first._command.index("--listen") + 1
    second._command = [*first._command]
    second._command[listen] = second.address
    processes.start()
    second.start()
    yield first, second
    second.kill()
    processes.kill()


async def ready(*tiers: TierProcess) -> None:
    for tier in tiers:
        tier.start()
        await until(lambda tier=tier: is_serving(tier), PATIENCE_S)


@pytest.mark.parametrize(
    ("mode", "number"),
    [(mode, signal.SIGKILL) for mode in ALL_MODES] + [("seeded rejection", signal.SIGTERM)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_the_text_is_the_same_when_its_orchestrator_is_lost(processes, mode, number):
    first, second = processes
    await ready(first, second)
    request = asking(replace(ALL_MODES[mode], max_tokens=NUM_TOKENS))
    async with GenerationClient([second.address]) as client:
        expected = await generate(client, request)
    tokens = []
    async with GenerationClient([first.address, second.address]) as client:
        async for event in client.generate(request, timeout_s=60):
            if isinstance(event, Token):
                tokens.append(event)
                if len(tokens) == 20:
                    first.signal(number)
        first.wait()
        assert [token.index for token in tokens] == list(range(NUM_TOKENS))
        assert [token.token_id for token in tokens] == expected.token_ids
        listed = [each async for each in client.sessions(TENANT)]
    assert {each.status for each in listed} == {SessionStatus.FINISHED}


async def test_the_url_of_the_store_is_not_in_the_log(processes, shared_server):
    first, _ = processes
    await ready(first)
    assert "redis_url" in first.log()
    assert shared_server.url not in first.log()
