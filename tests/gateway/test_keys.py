"""API keys over HTTP: each request shows the key that it came with, and gets what that one may."""

import asyncio

import httpx2
import openai
import pytest
import pytest_asyncio
import schemathesis
from schemathesis.specs.openapi.checks import (
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.gateway.answers import CHAT, COMPLETIONS, chat, completion, events_of, post, refused
from tests.gateway.conftest import running_gateway
from tests.security.keys import add, guard_of
from tests.stack import running_stack
from tests.store.conftest import shared_server

__all__ = ["shared_server"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

MODULE = {"scope": "module", "loop_scope": "module"}
RESPONSES = "/v1/responses"
ASKED = {"input": "abc", "seed": 5, "max_output_tokens": 8, "ignore_eos": True}
NO_KEYS = ("Bearer", "Bearer two words", "Basic abc", "Bearer " + "k" * 9000, b"Bearer k\xe9")
EVERYTHING = [
    ("POST", CHAT, chat()),
    ("POST", CHAT, chat(stream=True)),
    ("POST", CHAT, chat(n=2)),
    ("POST", CHAT, chat(model="gpt-9")),
    ("POST", COMPLETIONS, completion()),
    ("POST", COMPLETIONS, completion(stream=True, echo=True)),
    ("POST", RESPONSES, ASKED),
    ("POST", RESPONSES, {**ASKED, "stream": True}),
    ("POST", RESPONSES, {**ASKED, "store": False}),
    ("POST", RESPONSES, {**ASKED, "previous_response_id": "resp_a"}),
    ("GET", f"{RESPONSES}/resp_a", None),
    ("GET", f"{RESPONSES}/resp_a?stream=true", None),
    ("DELETE", f"{RESPONSES}/resp_a", None),
    ("POST", f"{RESPONSES}/resp_a/cancel", None),
    ("POST", "/tokenize", {"prompt": "abc"}),
    ("POST", "/detokenize", {"tokens": [4]}),
    ("GET", "/tokenizer_info", None),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models/tiny", None),
    ("GET", "/v1/models/gpt-9", None),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of keys."""
    return tmp_path_factory.mktemp("keys") / "keys.json"


@pytest_asyncio.fixture(**MODULE)
async def keyed(tiny_target, shared_server, path):
    """An orchestrator that wants keys, and the gateway's own."""
    own = add(path, "gateway")
    guard, url = guard_of(path), shared_server.url
    proposer = tiny_target.proposer()
    async with running_stack(tiny_target, proposer, client_guard=guard, store_url=url) as stack:
        yield stack, own


@pytest_asyncio.fixture(**MODULE)
async def keyed_url(keyed):
    stack, own = keyed
    async with running_gateway(stack.address, api_key=own) as url:
        yield url


def calling(url, key):
    headers = {"authorization": f"Bearer {key}"}
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=60)


@pytest.mark.parametrize("shown", [{}, {"authorization": "Bearer fk-wrong"}], ids=["none", "wrong"])
async def test_without_a_known_key_no_route_answers(keyed_url, shown):
    async with httpx2.AsyncClient(base_url=keyed_url, headers=shown, timeout=60) as http:
        for method, route, body in EVERYTHING:
            answer = await http.request(method, route, json=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (401, "invalid_api_key"), route
            assert set(error) == {"message", "type", "param", "code"}
            assert answer.headers["www-authenticate"] == "Bearer"
        for route in ("/health", "/version", "/openapi.json"):
            assert (await http.get(route)).status_code == 200


async def test_the_document_says_who_needs_a_key_and_what_others_get(keyed_url, path, http):
    used_up = add(path, "alice", requests_per_minute=1)
    open_url, key = str(http.base_url), {"bearer": []}
    for url, wanted in ((keyed_url, [key]), (open_url, [{}, key])):
        async with calling(url, used_up) as caller:
            document = (await caller.get("/openapi.json")).json()
        for route, methods in document["paths"].items():
            is_open = route in {"/health", "/version"}
            for described in methods.values():
                assert described.get("security") == (None if is_open else wanted)
    schema = schemathesis.openapi.from_dict(document)
    models = schema["/v1/models"]["get"]
    checks = [status_code_conformance, response_headers_conformance, response_schema_conformance]
    for secret, status in ((used_up, 200), (used_up, 429), ("fk-wrong", 401)):
        case = models.Case(headers={"authorization": f"Bearer {secret}"})
        answer = await asyncio.to_thread(case.call, base_url=keyed_url)
        assert answer.status_code == status
        case.validate_response(answer, checks=checks)


async def test_what_is_no_key_is_answered_as_none_where_keys_are_on_and_minded_nowhere_else(
    keyed_url, http
):
    async with httpx2.AsyncClient(base_url=keyed_url, timeout=60) as keyed:
        for header in NO_KEYS:
            shown = {"authorization": header}
            assert (await keyed.get("/v1/models", headers=shown)).status_code == 401, header
            answer = await http.post(CHAT, json=chat(max_tokens=2), headers=shown)
            assert answer.status_code == 200, header


async def test_with_a_key_all_is_as_without_keys(keyed_url, path, http):
    async with calling(keyed_url, add(path, "alice")) as alice:
        asked = chat(max_tokens=8, ignore_eos=True)
        expected = await post(http, CHAT, asked)
        assert (await post(alice, CHAT, asked))["choices"] == expected["choices"]
        streamed = events_of((await alice.post(CHAT, json={**asked, "stream": True})).text)
        text = "".join(each["choices"][0]["delta"].get("content", "") for each in streamed)
        assert text == expected["choices"][0]["message"]["content"]
        assert len((await post(alice, CHAT, {**asked, "n": 3}))["choices"]) == 3
        for route in ("/v1/models", "/tokenizer_info"):
            assert (await alice.get(route)).json().keys() == (await http.get(route)).json().keys()
        status, error = await refused(alice, CHAT, chat(model="gpt-9"))
        assert (status, error["code"]) == (404, "model_not_found")


async def test_a_response_is_its_tenants_alone(keyed_url, path):
    first, second, other = (add(path, name) for name in ("alice", "alice", "bob"))
    async with calling(keyed_url, first) as alice, calling(keyed_url, other) as bob:
        response = await post(alice, RESPONSES, ASKED)
        one = f"{RESPONSES}/{response['id']}"
        follows = {**ASKED, "previous_response_id": response["id"]}
        for method, route, body in (
            ("GET", one, None),
            ("GET", f"{one}?stream=true", None),
            ("DELETE", one, None),
            ("POST", f"{one}/cancel", None),
            ("POST", RESPONSES, follows),
            ("POST", RESPONSES, {**follows, "stream": True}),
        ):
            answer = await bob.request(method, route, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
        async with calling(keyed_url, second) as same_tenant:
            assert (await same_tenant.get(one)).json()["output"] == response["output"]
            await post(same_tenant, RESPONSES, follows)
        streamed = await alice.get(one, params={"stream": "true", "starting_after": "5"})
        assert "response.incomplete" in streamed.text
        unstored = await post(alice, RESPONSES, {**ASKED, "store": False})
        assert (await alice.get(f"{RESPONSES}/{unstored['id']}")).status_code == 404
        assert (await alice.delete(one)).json()["deleted"]


@pytest.mark.parametrize("streams", [False, True])
async def test_a_key_that_has_used_what_it_may_is_told_when_to_come_again(keyed_url, path, streams):
    async with calling(keyed_url, add(path, "alice", requests_per_minute=1)) as http:
        await post(http, CHAT, chat(max_tokens=2))
        answer = await http.post(CHAT, json=chat(max_tokens=2, stream=streams))
    assert answer.status_code == 429
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "1 requests a minute" in error["message"]
    assert 30 < int(answer.headers["retry-after"]) <= 60


async def test_a_key_has_so_many_calls_at_a_time(keyed_url, path):
    async with calling(keyed_url, add(path, "alice", max_concurrent=1)) as http:
        status, error = await refused(http, CHAT, chat(n=4, max_tokens=64, ignore_eos=True))
        assert (status, error["code"]) == (429, "rate_limit_exceeded")


async def test_requests_side_by_side_show_a_key_each(keyed_url, path):
    secrets = [add(path, f"tenant-{index}") for index in range(4)]

    async def ask(secret):
        async with calling(keyed_url, secret) as http:
            response = await post(http, RESPONSES, ASKED)
            return f"{RESPONSES}/{response['id']}"

    routes = await asyncio.gather(*map(ask, secrets))
    for secret in secrets:
        async with calling(keyed_url, secret) as http:
            found = [(await http.get(route)).status_code for route in routes]
        assert found == [200 if secret == each else 404 for each in secrets]


async def test_openais_client_knows_the_errors(keyed_url, path):
    limited = add(path, "alice", requests_per_minute=1)
    async with openai.AsyncOpenAI(
        base_url=f"{keyed_url}/v1", api_key="fk-no", max_retries=0
    ) as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            await client.models.list()
        assert wrong.value.code == "invalid_api_key"
        known = client.with_options(api_key=limited)
        assert [each.id for each in (await known.models.list()).data] == ["tiny", "alias"]
        with pytest.raises(openai.RateLimitError) as used_up:
            await known.models.list()
        assert used_up.value.code == "rate_limit_exceeded"


@pytest.mark.parametrize("own", ["", "fk-wrong"])
async def test_a_gateway_whose_own_key_is_none_says_so(keyed, path, own):
    stack, _ = keyed
    async with (
        running_gateway(stack.address, api_key=own) as url,
        calling(url, add(path, "alice")) as http,
    ):
        health = await http.get("/health")
    assert health.status_code == 503
    assert "the gateway's own API key" in health.json()["error"]["message"]
