"""Whatever is wrong with a request is said in OpenAI's shape, with the field's name."""

from typing import get_type_hints

import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsStreaming as ChatParams,
)
from openai.types.completion_create_params import (
    CompletionCreateParamsStreaming as CompletionParams,
)
from openai.types.responses.response_create_params import (
    ResponseCreateParamsStreaming as ResponseParams,
)

from tests.gateway.answers import CHAT, COMPLETIONS, chat, completion, post, refused
from tests.gateway.conftest import MAX_BODY_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

WRONG = [
    (chat(temperature=1000), "temperature"),
    (chat(temperature="hot"), "temperature"),
    (chat(max_tokens=0), "max_tokens"),
    (chat(max_completion_tokens=0), "max_completion_tokens"),
    (chat(max_completion_tokens=9999), "max_completion_tokens"),
    (chat(max_tokens=2, max_completion_tokens=3), "max_tokens"),
    (chat(max_tokens=-1), "max_tokens"),
    (chat(max_tokens=2**40), "max_tokens"),
    (chat(top_k=-2), "top_k"),
    (chat(n=0), "n"),
    (chat(n=10**6), "n"),
    (chat(seed=2**70), "seed"),
    (chat(stop=["x"] * 17), "stop"),
    (chat(stop=[""]), "stop"),
    (chat(stop_token_ids=[-1]), "stop_token_ids"),
    (chat(logprobs=True, top_logprobs=21), "top_logprobs"),
    (chat(top_logprobs=2), "top_logprobs"),
    (chat(stream_options={"include_usage": True}), "stream_options"),
    (chat(stream=True, stream_options={"include_usages": True}), "stream_options.include_usages"),
    (chat(messages=[]), "messages"),
    (chat(messages="abc"), "messages"),
    (chat(messages=[{"content": "abc"}]), "messages[0].role"),
    (chat(messages=[{"role": "user", "content": 7}]), "messages[0].content"),
    (chat(messages=[{"role": "user", "content": "a", "name": "b"}]), "messages[0].name"),
    (
        chat(messages=[{"role": "user", "content": [{"type": "image_url", "text": ""}]}]),
        "messages[0].content[0].type",
    ),
    (chat(tempreture=1), "tempreture"),
    (chat(tools=[{"type": "function"}]), "tools"),
    (chat(response_format={"type": "json_object"}), "response_format"),
    (chat(response_format={"type": "text", "strict": True}), "response_format"),
    (chat(logit_bias={"5": 1}), "logit_bias"),
    (chat(presence_penalty=0.5), "presence_penalty"),
    (chat(prediction={"type": "magic", "content": "x"}), "prediction.type"),
    (chat(prediction={"type": "content", "content": 7}), "prediction.content"),
    (chat(prediction={"type": "content", "content": "x", "k": 1}), "prediction.k"),
    (chat(prediction={"type": "content", "content": "a" * 8000}), "prediction"),
    (chat(num_speculative_tokens=99), "num_speculative_tokens"),
    (chat(verification_mode="magic"), "verification_mode"),
    (chat(continue_final_message=1), "continue_final_message"),
]
WRONG_COMPLETIONS = [
    (completion(prompt=[]), "prompt"),
    (completion(prompt=""), "prompt"),
    (completion(prompt=["a", [1]]), "prompt"),
    (completion(prompt=[1, "a"]), "prompt"),
    (completion(prompt=[99]), "prompt"),
    (completion(prompt=[-1]), "prompt"),
    (completion(prompt=["a"] * 1000), "prompt"),
    (completion(logprobs=21), "logprobs"),
    (completion(logprobs=-1), "logprobs"),
    (completion(prompt_logprobs=21), "prompt_logprobs"),
    (completion(prompt_logprobs=-1), "prompt_logprobs"),
    (completion(echo=True, logprobs=21), "logprobs"),
    (completion(prompt=[[3] * 100] * 20, n=10, echo=True, logprobs=20), "logprobs"),
    (completion(max_tokens=0), "max_tokens"),
    (completion(suffix="x"), "suffix"),
    (completion(best_of=2), "best_of"),
]


@pytest.mark.parametrize("other", [{}, {"prompt_logprobs": 2}], ids=["alone", "beside another"])
@pytest.mark.parametrize("number", [21, 10**6])
async def test_too_many_logprobs_of_an_echo_are_refused_for_their_number(http, number, other):
    asked = completion(prompt=[3] * 100, echo=True, logprobs=number, **other)
    status, error = await refused(http, COMPLETIONS, asked)
    assert (status, error["param"]) == (400, "logprobs")
    assert error["message"] == "logprobs: must be at most 20"


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        *((CHAT, body, param) for body, param in WRONG),
        *((COMPLETIONS, body, param) for body, param in WRONG_COMPLETIONS),
    ],
)
async def test_the_field_that_is_wrong_is_named(http, path, body, param):
    for streams in (False, True) if "stream_options" not in body else (None,):
        asked = body if streams is None else {**body, "stream": streams}
        status, error = await refused(http, path, asked)
        assert (status, error["type"]) == (400, "invalid_request_error")
        assert error["param"] == param
        assert param in error["message"]


async def test_fields_that_change_nothing_are_let_through(http):
    plain = await post(http, CHAT, chat(max_tokens=4))
    answer = await post(
        http,
        CHAT,
        chat(
            max_tokens=4,
            user="me",
            metadata={"a": "b"},
            store=True,
            service_tier="auto",
            parallel_tool_calls=False,
            presence_penalty=0,
            frequency_penalty=0.0,
            logit_bias={},
            tools=[],
            tool_choice="none",
            response_format={"type": "text", "json_schema": None},
            top_k=-1,
            logprobs=False,
            top_logprobs=0,
        ),
    )
    assert answer["choices"] == plain["choices"]


VLLM_FIELDS = {
    "ec_transfer_params": {},
    "kv_transfer_params": {},
    "logprob_token_ids": [],
    "return_prompt_text": False,
    "return_token_offsets": False,
    "return_weight_versions": False,
    "session_id": "mine",
    "stream_interval": 1,
    "truncation_side": None,
    "vllm_xargs": {},
    "watermarking": False,
}


@pytest.mark.parametrize(
    ("path", "asked", "params"),
    [
        (CHAT, chat(max_tokens=1), ChatParams),
        (COMPLETIONS, completion(max_tokens=1), CompletionParams),
        ("/v1/responses", {"input": "a", "max_output_tokens": 1}, ResponseParams),
    ],
)
async def test_each_field_of_openais_client_is_known_by_its_name(http, path, asked, params):
    for name in get_type_hints(params):
        answer = (await http.post(path, json=asked | {name: [[]]})).json()
        assert (answer.get("error") or {}).get("code") != "unknown_parameter", name


async def test_fields_of_vllm_that_ask_for_what_is_done_anyway_are_let_through(http):
    for path, asked in ((CHAT, chat), (COMPLETIONS, completion)):
        plain = await post(http, path, asked(max_tokens=2))
        assert (await post(http, path, asked(max_tokens=2, **VLLM_FIELDS)))["choices"] == (
            plain["choices"]
        )


async def test_an_unknown_model_is_not_found(http):
    status, error = await refused(http, CHAT, chat(model="gpt-9"))
    assert (status, error["param"], error["code"]) == (404, "model", "model_not_found")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"[" * 20_000, 400, "invalid_json"),
        (b'{"prompt": "\xff"}', 400, "invalid_json"),
        (b'{"prompt": "\\ud800"}', 400, "invalid_json"),
        (b'{"temperature": 1e999, "prompt": "a"}', 400, "invalid_json"),
        (b'{"prompt": "' + b"a" * MAX_BODY_BYTES + b'"}', 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_none_is_refused(http, content, status, code):
    async def piecewise():
        yield content

    headers = {"content-type": "application/json"}
    for sent in (content, piecewise()):  # with a length, and without
        response = await http.post(COMPLETIONS, content=sent, headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "headers", [{}, {"content-type": "application/json", "content-encoding": "gzip"}]
)
async def test_a_form_of_another_site_and_a_compressed_body_are_refused(http, headers):
    response = await http.post(COMPLETIONS, content=b'{"prompt": "a"}', headers=headers)
    assert response.status_code == 415
    assert response.json()["error"]["code"] == "unsupported_media_type"


async def test_unknown_paths_and_methods_have_the_same_shape(http):
    for method, path, status in (
        ("GET", "/nope", 404),
        ("GET", CHAT, 405),
        ("PUT", "/", 405),
        ("POST", f"{CHAT}/", 404),
        ("GET", "/health/", 404),
    ):
        response = await http.request(method, path)
        assert response.status_code == status
        assert path in response.json()["error"]["message"]


async def test_a_request_keeps_its_name(http):
    response = await http.get("/health", headers={"x-request-id": "mine"})
    assert response.headers["x-request-id"] == "mine"
    response = await http.get("/health", headers={"x-request-id": "x" * 999})
    assert len(response.headers["x-request-id"]) == 32
