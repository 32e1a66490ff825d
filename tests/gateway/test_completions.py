"""`/v1/completions` as clients read it."""

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from tests.gateway.answers import COMPLETIONS, completion, post, streamed
from tests.stack import generate

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def by_grpc(stack, prompt, max_tokens, seed=5):
    params = GenerationParams(max_tokens=max_tokens, seed=seed, num_speculative_tokens=3)
    return await generate(stack.client, GenerationRequest(prompt, params))


@pytest.mark.parametrize("prompt", ["abc", [3, 4, 5]])
async def test_the_text_of_a_seed_is_the_same_by_http_and_by_grpc(http, stack, prompt):
    answer = await post(http, COMPLETIONS, completion(prompt=prompt, max_tokens=12))
    chunks = await streamed(http, COMPLETIONS, completion(prompt=prompt, max_tokens=12))
    expected = await by_grpc(stack, prompt, 12)
    assert answer["choices"][0]["text"] == expected.text
    assert "".join(each["choices"][0]["text"] for each in chunks) == expected.text
    assert answer["object"] == chunks[0]["object"] == "text_completion"


async def test_a_batch_has_the_choices_of_each_prompt_in_order(http, stack):
    asked = completion(prompt=["abc", "dd"], n=2, max_tokens=6)
    answer = await post(http, COMPLETIONS, asked)
    chunks = await streamed(http, COMPLETIONS, {**asked, "stream_options": {"include_usage": True}})
    texts = [each["text"] for each in answer["choices"]]
    assert texts == [
        (await by_grpc(stack, prompt, 6, seed)).text for prompt in ("abc", "dd") for seed in (5, 6)
    ]
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 5
    pieces = ["", "", "", ""]
    for chunk in chunks[:-1]:
        pieces[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert pieces == texts
    assert chunks[-1]["usage"] == answer["usage"]


async def test_sixteen_tokens_are_what_comes_where_nothing_is_said(http):
    answer = await post(http, COMPLETIONS, completion(ignore_eos=True))
    assert answer["usage"]["completion_tokens"] == 16


async def test_logprobs_are_told_token_by_token(http):
    asked = completion(max_tokens=5, ignore_eos=True, logprobs=2)
    told = (await post(http, COMPLETIONS, asked))["choices"][0]["logprobs"]
    chunks = await streamed(http, COMPLETIONS, asked)
    for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert len(told[name]) == 5
        pieces = [each["choices"][0]["logprobs"] for each in chunks[:-1]]
        assert [piece[name][0] for piece in pieces] == told[name]


async def test_a_stop_text_ends_the_answer_and_is_named(http):
    whole = (await post(http, COMPLETIONS, completion(max_tokens=12, ignore_eos=True)))["choices"][
        0
    ]
    stop = whole["text"][4:6]
    (choice,) = (
        await post(http, COMPLETIONS, completion(max_tokens=12, ignore_eos=True, stop=stop))
    )["choices"]
    assert choice["text"] == whole["text"].partition(stop)[0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
