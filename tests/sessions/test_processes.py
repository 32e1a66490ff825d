"""Processes that are killed or drained in the middle of an answer, of which no token is lost."""

import json
import signal
from dataclasses import replace

import httpx2
import pytest

from forethought.client import GenerationClient
from forethought.generation import SessionStatus, Token
from tests.gateway.conftest import running_gateway
from tests.lifecycle.conftest import long_target_folder
from tests.lifecycle.processes import PATIENCE_S, Processes, TierProcess
from tests.lifecycle.test_processes import is_serving
from tests.sessions.deployments import ALL_MODES, TENANT, asking
from tests.stack import generate
from tests.waiting import until

__all__ = ["long_target_folder"]

NUM_TOKENS = 200
MANY = 500
"""Tokens of an answer of which much is still to come when its reader has been held up."""


@pytest.fixture(scope="module")
def deployment(long_target_folder, shared_server, tmp_path_factory):
    """A target, a draft and an orchestrator, and a second orchestrator; all with one store."""
    logs = tmp_path_factory.mktemp("logs")
    processes = Processes(long_target_folder, logs)
    first = processes.orchestrator
    first._command += ["--redis-url", shared_server.url, "--drain-grace-s", "0"]
    first._command += ["--target-patience-s", str(PATIENCE_S)]
    second = TierProcess("orchestrator", [], logs / "second.log")
    listen = first._command.index("--listen") + 1
    second._command = [*first._command]
    second._command[listen] = second.address
    processes.start()
    second.start()
    yield processes, second
    second.kill()
    processes.kill()


@pytest.fixture
def processes(deployment):
    """The orchestrators."""
    processes, second = deployment
    return processes.orchestrator, second


@pytest.fixture
def gateway(processes, tmp_path):
    """A gateway before the first orchestrator."""
    first, _ = processes
    gateway = TierProcess("gateway", ["--orchestrator", first.address], tmp_path / "gateway.log")
    gateway.start()
    yield gateway
    gateway.kill()


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


class Watched:
    """The events of a response, read from one stream after another."""

    def __init__(self):
        self.events = []

    async def read(self, http, method, path, kills=(), **request):
        """Reads to the end of a stream; after every 30 events the next process is killed."""
        kills = [*kills]
        unread = ""
        async with http.stream(method, path, **request) as response:
            assert response.status_code == 200, await response.aread()
            async for piece in response.aiter_text():
                *blocks, unread = (unread + piece).split("\n\n")
                for block in blocks:
                    self.events.append(json.loads(block.split("data: ", 1)[1]))
                    if kills and len(self.events) % 30 == 0:
                        kills.pop(0)()

    @property
    def deltas(self):
        return [each["delta"] for each in self.events if "delta" in each]


async def test_a_response_has_each_token_once_whoever_is_killed(deployment, processes, gateway):
    (first, second), (tiers, _) = processes, deployment
    await ready(first, second)
    asked = {"input": "abc", "seed": 5, "num_speculative_tokens": 3, "ignore_eos": True}
    asked |= {"max_output_tokens": MANY, "top_logprobs": 12, "stream": True}
    asked |= {"verification_mode": "coupled"}  # no late draft changes the text
    whole, watched = Watched(), Watched()

    def lose_target():
        tiers.target.kill()
        tiers.target.start()

    async with (
        running_gateway(first.address, second.address) as url,
        httpx2.AsyncClient(timeout=PATIENCE_S) as http,
    ):
        responses = f"{url}/v1/responses"
        await whole.read(http, "POST", responses, json=asked)

        async def is_there():
            try:
                return (await http.get(f"http://{gateway.address}/health")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(is_there, PATIENCE_S)
        with pytest.raises(httpx2.TransportError):
            await watched.read(
                http,
                "POST",
                f"http://{gateway.address}/v1/responses",
                [gateway.kill],
                json=asked,
            )
        name, last = watched.events[0]["response"]["id"], watched.events[-1]["sequence_number"]
        query = {"stream": "true", "starting_after": last}
        await watched.read(
            http, "GET", f"{responses}/{name}", [first.kill, lose_target], params=query
        )
    numbers = [each["sequence_number"] for each in watched.events]
    assert numbers == list(range(len(whole.events)))
    assert watched.deltas == whole.deltas
    assert watched.events[-1]["type"] == "response.incomplete"
    assert "Generate" in second.log()
