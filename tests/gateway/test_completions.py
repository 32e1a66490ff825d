"""`/v1/completions` as clients read it."""

from functools import partial

import pytest

from forethought.generation import GenerationParams, GenerationRequest, PromptToken
from tests.gateway.answers import CHAT, COMPLETIONS, chat, completion, post, refused, streamed
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


async def told_by_grpc(stack, prompt, num_top):
    params = GenerationParams(max_tokens=0, prompt_logprobs=num_top)
    events = stack.client.generate(GenerationRequest(prompt, params))
    return [event async for event in events if isinstance(event, PromptToken)]


@pytest.mark.parametrize("max_tokens", [0, 3])
@pytest.mark.parametrize("prompt", ["abcabd", [3, 4, 5, 3, 4, 6]])
async def test_an_echo_has_the_logprobs_of_the_prompt_before_those_of_the_answer(
    http, stack, prompt, max_tokens
):
    asked = completion(prompt=prompt, max_tokens=max_tokens, ignore_eos=True, echo=True, logprobs=2)
    (choice,) = (await post(http, COMPLETIONS, asked))["choices"]
    chunks = await streamed(http, COMPLETIONS, asked)
    told = choice["logprobs"]
    expected = await told_by_grpc(stack, [3, 4, 5, 3, 4, 6], 2)
    assert choice["text"].startswith("abcabd")
    assert choice["text"] == "".join(told["tokens"]).replace("</s>", "")
    assert told["text_offset"] == list(range(6 + max_tokens))
    assert told["token_logprobs"][:6] == [each.logprob for each in expected]
    assert None not in told["token_logprobs"][1:]
    assert told["top_logprobs"][0] is None
    for top, token in zip(told["top_logprobs"][1:6], expected[1:], strict=True):
        assert top == {each.text: each.logprob for each in token.top_logprobs} | {
            token.text: token.logprob
        }
    pieces = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    for name, values in told.items():
        assert [value for piece in pieces if piece for value in piece[name]] == values
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == choice["text"]


async def test_an_echo_alone_needs_no_logprobs(http):
    answer = await post(http, COMPLETIONS, completion(max_tokens=0, echo=True))
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("abc", "length")
    assert choice["logprobs"] is None
    assert answer["usage"]["completion_tokens"] == 0


async def test_log_likelihoods_of_a_batch_are_told_as_an_evaluation_asks_for_them(http, stack):
    prompts = [[3, 4, 5], [6, 3]]
    asked = completion(prompt=prompts, max_tokens=1, logprobs=1, echo=True, temperature=0)
    choices = (await post(http, COMPLETIONS, asked))["choices"]
    for prompt, choice in zip(prompts, choices, strict=True):
        expected = [each.logprob for each in await told_by_grpc(stack, prompt, 1)]
        assert choice["logprobs"]["token_logprobs"][:-1] == expected
        for logprob, top in zip(expected[1:], choice["logprobs"]["top_logprobs"][1:], strict=False):
            assert max(top.values()) >= logprob


@pytest.mark.parametrize(("path", "asked"), [(COMPLETIONS, completion), (CHAT, chat)])
async def test_prompt_logprobs_are_told_by_token_id_as_vllm_has_them(http, stack, path, asked):
    answer = await post(http, path, asked(prompt_logprobs=2, return_token_ids=True, max_tokens=2))
    holder = answer if path == CHAT else answer["choices"][0]
    told, prompt = holder["prompt_logprobs"], holder["prompt_token_ids"]
    expected = await told_by_grpc(stack, prompt, 2)
    assert told[0] is None
    assert len(told) == len(prompt)
    for place, token in zip(told[1:], expected[1:], strict=True):
        own = place.pop(str(token.token_id))
        assert (own["logprob"], own["decoded_token"]) == (token.logprob, token.text)
        best = {str(each.token_id): each for each in token.top_logprobs}
        assert own["rank"] in {None, 1, 2}
        assert (own["rank"] is not None) == (str(token.token_id) in best)
        best.pop(str(token.token_id), None)
        assert {name: each["logprob"] for name, each in place.items()} == {
            name: each.logprob for name, each in best.items()
        }


@pytest.mark.parametrize(
    ("path", "asked"),
    [(COMPLETIONS, completion), (COMPLETIONS, partial(completion, echo=True)), (CHAT, chat)],
)
async def test_a_prompt_alone_may_be_asked_for_with_several_choices(http, path, asked):
    alone = await post(http, path, asked(prompt_logprobs=2, max_tokens=0))
    several = await post(http, path, asked(prompt_logprobs=2, max_tokens=0, n=3))
    (choice,) = alone["choices"]
    assert several["choices"] == [{**choice, "index": index} for index in range(3)]
    assert several.get("prompt_logprobs") == alone.get("prompt_logprobs")


@pytest.mark.parametrize(("path", "asked"), [(COMPLETIONS, completion), (CHAT, chat)])
async def test_a_stream_does_not_tell_prompt_logprobs(http, path, asked):
    status, error = await refused(http, path, asked(prompt_logprobs=1, stream=True))
    assert (status, error["param"]) == (400, "prompt_logprobs")


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


@pytest.mark.parametrize(("path", "asked"), [(COMPLETIONS, completion), (CHAT, chat)])
async def test_a_stop_token_ends_the_answer_and_is_named(http, path, asked):
    fields = {"max_tokens": 12, "ignore_eos": True, "return_token_ids": True}
    token_ids = (await post(http, path, asked(**fields)))["choices"][0]["token_ids"]
    stopping = asked(**fields, stop_token_ids=[token_ids[4]])
    (choice,) = (await post(http, path, stopping))["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", choice["token_ids"][-1])
    last = [each for each in await streamed(http, path, stopping) if each["choices"]][-1]
    assert last["choices"][0]["stop_reason"] == choice["stop_reason"]
