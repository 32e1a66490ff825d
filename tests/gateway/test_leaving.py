"""Whoever leaves has stopped what was done for him; and a gateway whose orchestrators are away."""

import asyncio

import httpx2
import pytest

from tests.gateway.answers import CHAT, chat, events_of, refused
from tests.gateway.conftest import running_gateway
from tests.ports import free_port
from tests.stack import running_stack
from tests.waiting import target_load, until, until_nothing_is_held

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = chat(max_tokens=200, ignore_eos=True, n=2)


@pytest.mark.parametrize("streams", [False, True])
async def test_leaving_frees_what_the_tiers_hold(http, stack, streams):
    async def ask():
        async with http.stream("POST", CHAT, json={**LONG, "stream": streams}) as response:
            async for _ in response.aiter_lines():
                pass

    asking = asyncio.create_task(ask())

    async def is_under_way():
        return (await target_load(stack.target_stub)).num_sessions == 2

    await until(is_under_way)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await until_nothing_is_held(stack)


async def test_a_lost_orchestrator_is_told_within_the_stream(tiny_target):
    async with (
        running_stack(tiny_target, lookups=[tiny_target.ngram()]) as stack,
        running_gateway(stack.address) as url,
        httpx2.AsyncClient(base_url=url, timeout=60) as http,
        http.stream("POST", CHAT, json={**LONG, "n": 1, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        first = await anext(lines)
        await stack.server._server.stop(0)
        text = "\n".join([first, *[line async for line in lines], ""])
    assert events_of(text)[-1]["error"]["type"] == "server_error"


async def test_a_gateway_without_an_orchestrator_says_so():
    nowhere = f"127.0.0.1:{free_port()}"
    async with running_gateway(nowhere) as url, httpx2.AsyncClient(base_url=url) as http:
        response = await http.get("/health")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        status, error = await refused(http, CHAT, chat())
        assert (status, error["type"]) == (503, "server_error")


async def test_a_full_deployment_says_when_to_come_again(tiny_target):
    async with (
        running_stack(tiny_target, max_requests=1) as stack,
        running_gateway(stack.address) as url,
        httpx2.AsyncClient(base_url=url, timeout=60) as http,
        http.stream("POST", CHAT, json={**LONG, "n": 1, "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        refusal = await http.post(CHAT, json=chat())
    assert refusal.status_code == 429
    assert refusal.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(refusal.headers["retry-after"]) >= 1
