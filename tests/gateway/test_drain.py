"""A gateway that ends before its answers do says so in each."""

import asyncio
import json

import httpx2
import pytest

from gateway.upstream import Upstream
from tests.gateway.answers import CHAT, COMPLETIONS
from tests.gateway.conftest import serving
from tests.gateway.scripted import Say, ScriptedClient

RESPONSES = "/v1/responses"
ENDLESS = {
    CHAT: {"messages": [{"role": "user", "content": Say.ENDLESS}]},
    COMPLETIONS: {"prompt": Say.ENDLESS},
    RESPONSES: {"input": Say.ENDLESS},
}
WHY = "the gateway is shutting down, before the answer has ended"


@pytest.mark.parametrize("path", ENDLESS)
async def test_a_stream_that_outlasts_the_drain_ends_with_an_error_event(path):
    client = ScriptedClient()
    upstream = Upstream(client)
    async with (
        serving(upstream, drain_grace_s=0) as address,
        httpx2.AsyncClient(base_url=f"http://{address}", timeout=60) as http,
        http.stream("POST", path, json={**ENDLESS[path], "stream": True}) as response,
    ):
        lines = response.aiter_lines()
        begun = await anext(lines)
        upstream.stopping.set()
        *_, last, done, rest = "\n".join([begun, *[line async for line in lines], ""]).split("\n\n")
    assert client.has_ended.is_set()
    if path == RESPONSES:
        kind, last = done.splitlines()
        assert kind == "event: error"
        told = json.loads(last.removeprefix("data: "))
        assert told["type"] == "error"
    else:
        assert done == "data: [DONE]"
        told = json.loads(last.removeprefix("data: "))["error"]
        assert told["type"] == "server_error"
    assert (told["code"], told["message"], rest) == ("unavailable", WHY, "")


@pytest.mark.parametrize("path", ENDLESS)
async def test_a_whole_answer_that_outlasts_the_drain_is_an_error(path):
    client = ScriptedClient()
    upstream = Upstream(client)
    async with (
        serving(upstream, drain_grace_s=0) as address,
        httpx2.AsyncClient(base_url=f"http://{address}", timeout=60) as http,
    ):
        asking = asyncio.create_task(http.post(path, json=ENDLESS[path]))
        await client.has_begun.wait()
        upstream.stopping.set()
        response = await asking
    assert client.has_ended.is_set()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["message"] == WHY
