"""`/v1/responses`: kept, followed up, cancelled, and continued through any gateway."""

import asyncio
import json

import httpx2
import openai
import pytest
import pytest_asyncio

from forethought.client import GenerationClient
from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from tests.gateway.answers import refused
from tests.gateway.conftest import running_gateway
from tests.sessions.deployments import deployed
from tests.stack import generate
from tests.store.conftest import shared_server
from tests.tiny import EOS_ID
from tests.waiting import until

__all__ = ["shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESPONSES = "/v1/responses"
MODULE = {"scope": "module", "loop_scope": "module"}


@pytest_asyncio.fixture(**MODULE)
async def deployment(tiny_target, tiny_draft, shared_server):
    """Two orchestrators with one store."""
    async with deployed(tiny_target, tiny_draft, shared_server.url) as deployment:
        yield deployment


@pytest_asyncio.fixture(**MODULE)
async def urls(deployment):
    """Two gateways, each before an orchestrator of its own."""
    first, second = deployment.addresses
    async with running_gateway(first) as one, running_gateway(second) as other:
        yield one, other


@pytest_asyncio.fixture(**MODULE)
async def http(urls):
    async with httpx2.AsyncClient(base_url=urls[0], timeout=60) as client:
        yield client


@pytest_asyncio.fixture(**MODULE)
async def other(urls):
    """Through the other gateway."""
    async with httpx2.AsyncClient(base_url=urls[1], timeout=60) as client:
        yield client


def asking(**fields):
    plain = {"input": "abc", "seed": 5, "num_speculative_tokens": 3, "max_output_tokens": 12}
    return {**plain, **fields}


async def created(http, **fields):
    response = await http.post(RESPONSES, json=asking(**fields))
    assert response.status_code == 200, response.text
    return response.json()


def text_of(response):
    ((part,),) = [item["content"] for item in response["output"]]
    return part["text"]


def events_of(text):
    *blocks, rest = text.split("\n\n")
    assert rest == ""
    events = []
    for block in blocks:
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def streamed(http, **fields):
    response = await http.post(RESPONSES, json=asking(stream=True, **fields))
    assert response.status_code == 200, response.text
    return events_of(response.text)


async def read_until(response, events, is_enough):
    """Takes events off a stream until there are enough of them; None: all."""
    buffer = ""
    async for piece in response.aiter_text():
        *blocks, buffer = (buffer + piece).split("\n\n")
        events += [json.loads(block.split("data: ", 1)[1]) for block in blocks]
        if is_enough(events):
            return


def without_metrics(response):
    return {name: each for name, each in response.items() if name != "metrics"}


async def test_a_response_is_found_again_through_any_gateway(http, other):
    response = await created(http, metadata={"a": "b"}, instructions="c", user="me")
    assert response["status"] in {"completed", "incomplete"}
    assert response["metrics"]["speculative_decoding"]["num_draft_tokens"] > 0
    found = (await other.get(f"{RESPONSES}/{response['id']}")).json()
    assert without_metrics(found) == without_metrics(response)
    assert (found["metadata"], found["instructions"]) == ({"a": "b"}, "c")


async def test_the_text_is_that_of_a_conversation_by_grpc(http, deployment):
    response = await created(http, instructions="d")
    params = GenerationParams(max_tokens=12, seed=5, num_speculative_tokens=3)
    said = [ChatMessage("system", "d"), ChatMessage("user", "abc")]
    async with GenerationClient(deployment.addresses[0]) as client:
        expected = await generate(client, GenerationRequest(said, params))
    assert text_of(response) == expected.text
    assert response["usage"]["output_tokens"] == len(expected.token_ids)
    events = await streamed(http, instructions="d")
    deltas = [each["delta"] for each in events if each["type"] == "response.output_text.delta"]
    assert deltas == [token.text for token in expected.tokens]


async def test_one_response_has_many_next_ones_and_stays_as_it_is(http, other, deployment):
    first = await created(http, ignore_eos=True)
    branches = [
        await created(each, input=said, previous_response_id=first["id"])
        for each, said in ((http, "a"), (other, "b"), (http, "a"))
    ]
    found = (await other.get(f"{RESPONSES}/{first['id']}")).json()
    assert without_metrics(found) == without_metrics(first)
    assert text_of(branches[0]) == text_of(branches[2])
    assert branches[1]["previous_response_id"] == first["id"]
    async with GenerationClient(deployment.addresses[0]) as client:
        before = await client.get_session(first["id"].removeprefix("resp_"))
        content = await client.get_session(branches[1]["id"].removeprefix("resp_"))
    said = (*before.prompt_token_ids, *before.output_token_ids)
    assert content.prompt_token_ids == (*said, EOS_ID, 4, EOS_ID)


async def test_a_conversation_keeps_the_instructions_that_it_began_with(http):
    first = await created(http, instructions="c" * 20)
    await created(http, previous_response_id=first["id"], instructions="c" * 20)
    status, error = await refused(
        http, RESPONSES, asking(previous_response_id=first["id"], instructions="d")
    )
    assert (status, error["param"]) == (400, "instructions")


async def test_a_stream_goes_on_behind_any_of_its_events_through_any_gateway(http, other):
    events = await streamed(http, ignore_eos=True, logprobs=None, top_logprobs=1)
    assert [each["sequence_number"] for each in events] == list(range(len(events)))
    assert [each["type"] for each in events if "delta" not in each] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    last = events.pop()["response"]
    path = f"{RESPONSES}/{last['id']}"
    for after in (-1, 0, 3, 4, 9, len(events) - 1):
        query = {"stream": "true", "starting_after": str(after)}
        again = events_of((await other.get(path, params=query)).text)
        assert without_metrics(again.pop()["response"]) == without_metrics(last)
        assert again == events[after + 1 :]


async def test_a_client_that_lost_its_stream_has_each_token_once(http, other, deployment):
    whole = await streamed(http, ignore_eos=True)
    deployment.gate.allow(4)
    events = []
    body = asking(stream=True, ignore_eos=True)
    async with http.stream("POST", RESPONSES, json=body) as response:
        await read_until(response, events, lambda found: len(found) > 5)
    response_id = events[0]["response"]["id"]
    deployment.gate.open()
    query = {"stream": "true", "starting_after": str(events[-1]["sequence_number"])}
    path = f"{RESPONSES}/{response_id}"
    events += events_of((await other.get(path, params=query)).text)
    assert [each["sequence_number"] for each in events] == list(range(len(whole)))
    deltas, expected = (
        [each["delta"] for each in found if "delta" in each] for found in (events, whole)
    )
    assert deltas == expected
    assert text_of(events[-1]["response"]) == "".join(expected)


async def test_a_cancelled_response_ends_where_it_is(http, other, deployment):
    deployment.gate.allow(4)
    events = []

    async def read():
        body = asking(stream=True, ignore_eos=True)
        async with http.stream("POST", RESPONSES, json=body) as response:
            await read_until(response, events, lambda _: False)

    reading = asyncio.create_task(read())
    await until(lambda: len(events) > 5)
    path = f"{RESPONSES}/{events[0]['response']['id']}"
    assert (await other.get(path)).json()["status"] == "in_progress"
    cancelled = (await other.post(f"{path}/cancel")).json()
    assert cancelled["status"] == "cancelled"
    deployment.gate.open()
    await reading
    assert (events[-1]["type"], events[-1]["code"]) == ("error", "session_cancelled")
    told = "".join(each["delta"] for each in events if "delta" in each)
    assert text_of(cancelled).startswith(told)
    found = (await http.get(path)).json()
    assert found == cancelled
    status, error = await refused(http, RESPONSES, asking(previous_response_id=cancelled["id"]))
    assert (status, error["param"]) == (400, "previous_response_id")


async def test_a_deleted_response_and_one_that_is_not_stored_are_gone(http, other):
    response = await created(http)
    path = f"{RESPONSES}/{response['id']}"
    assert (await other.delete(path)).json()["deleted"]
    unstored = await created(http, store=False)
    for gone in (response, unstored):
        for method, tail in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            answer = await http.request(method, f"{RESPONSES}/{gone['id']}{tail}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["resp_", "resp_AAAAAAAAAAAAAAAAAAAAAA", "x", "resp_%F0%9F%98%80"])
async def test_a_forged_id_is_the_id_of_nothing(http, name):
    assert (await http.get(f"{RESPONSES}/{name}")).status_code == 404
    status, error = await refused(http, RESPONSES, asking(previous_response_id=name))
    assert (status, error["param"]) == (404, "previous_response_id")


async def test_a_session_that_is_no_response_is_none(http, deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        answer = await generate(client, GenerationRequest("abc", note="mine"))
    name = f"resp_{answer.started.session_id}"
    assert (await http.get(f"{RESPONSES}/{name}")).status_code == 404


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].type"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": 9999}, "max_output_tokens"),
        ({"temperature": 1000}, "temperature"),
        ({"metadata": {"a": "b" * 513}}, "metadata"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "json_object"}}}, "text"),
        ({"n": 2}, "n"),
    ],
)
async def test_what_is_wrong_is_named(http, fields, param):
    status, error = await refused(http, RESPONSES, asking(**fields))
    assert (status, error["param"]) == (400, param)


@pytest.mark.parametrize(
    "query", [{"stream": "yes"}, {"starting_after": "1"}, {"stream": "true", "starting_after": "x"}]
)
async def test_a_query_that_is_none_is_refused(http, query):
    response = await created(http)
    answer = await http.get(f"{RESPONSES}/{response['id']}", params=query)
    assert answer.status_code == 400


async def test_openais_client_finds_all_of_it_as_it_should_be(urls):
    async with openai.AsyncOpenAI(
        base_url=f"{urls[0]}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        asked = {"model": "tiny", "max_output_tokens": 8, "extra_body": {"ignore_eos": True}}
        first = await client.responses.create(input="abc", **asked)
        said = [{"role": "user", "content": [{"type": "input_text", "text": "ab"}]}]
        second = await client.responses.create(
            input=said, previous_response_id=first.id, top_logprobs=2, **asked
        )
        assert second.output_text == (await client.responses.retrieve(second.id)).output_text
        again = [item.model_dump() for item in first.output]
        await client.responses.create(input=[*again, *said], **asked)
        stream = await client.responses.create(input="abc", stream=True, **asked)
        events = [event async for event in stream]
        stream = await client.responses.retrieve(
            events[0].response.id, stream=True, starting_after=6
        )
        assert [each.type for each in events[7:]] == [each.type async for each in stream]
        await client.responses.cancel(first.id)
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(first.id)
