"""`/v1/chat/completions` as clients read it."""

import json

import pytest

from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from gateway.openai.chat import ChatRequest, ChatWriter
from gateway.openai.choices import ChoiceEvent
from gateway.openai.messages import Message
from gateway.openai.stream import Head
from tests.cli import recorded
from tests.gateway.answers import CHAT, MESSAGES, chat, post, streamed
from tests.stack import Stack, generate

pytestmark = pytest.mark.asyncio(loop_scope="module")


def text_of(chunks):
    return "".join(
        each["choices"][0]["delta"].get("content") or "" for each in chunks if each["choices"]
    )


async def by_grpc(stack: Stack, max_tokens: int, seed: int = 5):
    params = GenerationParams(max_tokens=max_tokens, seed=seed, num_speculative_tokens=3)
    return await generate(stack.client, GenerationRequest([ChatMessage("user", "abc")], params))


async def test_the_text_of_a_seed_is_the_same_by_http_and_by_grpc(http, stack):
    answer = await post(http, CHAT, chat(max_tokens=12))
    chunks = await streamed(http, CHAT, chat(max_completion_tokens=12))
    expected = await by_grpc(stack, 12)
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert text_of(chunks) == expected.text
    assert choice["finish_reason"] == expected.finished.reason.value
    assert answer["usage"]["completion_tokens"] == len(expected.token_ids)
    assert answer["usage"]["prompt_tokens"] == expected.started.num_prompt_tokens


async def test_an_answer_names_its_model_and_says_how_speculation_went(http):
    answer = await post(http, CHAT, chat(max_tokens=9, ignore_eos=True, model="alias"))
    assert (answer["object"], answer["model"]) == ("chat.completion", "alias")
    assert answer["id"].startswith("chatcmpl-")
    counts = answer["metrics"]["speculative_decoding"]
    steps = counts["acceptance_histogram"]
    assert sum(steps) == counts["num_spec_steps"] > 0
    accepted = sum(place * num for place, num in enumerate(steps))
    assert accepted == counts["num_accepted_draft_tokens"]
    assert counts["mean_acceptance_length"] == 1 + accepted / sum(steps)
    assert counts["draft_acceptance_rate"] == accepted / counts["num_draft_tokens"]
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + 9


async def test_an_answer_without_drafts_says_why(http):
    answer = await post(http, CHAT, chat(max_tokens=4, num_speculative_tokens=0))
    counts = answer["metrics"]["speculative_decoding"]
    assert (counts["num_spec_steps"], counts["no_draft_reason"]) == (0, "not_asked")


async def test_the_role_leaves_with_the_first_token():
    body = ChatRequest(messages=[Message("user", "abc")], stream=True)
    writer = ChatWriter(Head("id", "object", 0, "tiny", ""), body, None)
    token = recorded.TOKENS[0]
    assert writer.on(ChoiceEvent(0, recorded.STARTED)) == b""
    first = writer.on(ChoiceEvent(0, token)).decode()
    assert [json.loads(each[6:])["choices"][0]["delta"] for each in first.split("\n\n")[:-1]] == [
        {"role": "assistant", "content": ""},
        {"content": token.text},
    ]
    assert b"role" not in writer.on(ChoiceEvent(0, token))


async def test_a_stream_begins_with_the_role_and_has_a_chunk_for_each_token(http):
    chunks = await streamed(http, CHAT, chat(max_tokens=6, ignore_eos=True))
    opening, *tokens, closing = [each["choices"][0] for each in chunks]
    assert opening["delta"] == {"role": "assistant", "content": ""}
    assert [set(each["delta"]) for each in tokens] == [{"content"}] * 6
    assert (closing["delta"], closing["finish_reason"]) == ({}, "length")
    assert {each["finish_reason"] for each in (opening, *tokens)} == {None}
    assert len({each["id"] for each in chunks}) == 1
    assert chunks[-1]["metrics"]["speculative_decoding"]["num_spec_steps"] > 0


async def test_usage_comes_last_if_asked_for_and_in_every_chunk_if_asked_for(http):
    options = {"include_usage": True}
    chunks = await streamed(http, CHAT, chat(max_tokens=4, stream_options=options))
    assert [each["usage"] for each in chunks[:-1]] == [None] * (len(chunks) - 1)
    last = chunks[-1]
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == len(chunks) - 3
    assert "speculative_decoding" in last["metrics"]
    options["continuous_usage_stats"] = True
    chunks = await streamed(http, CHAT, chat(max_tokens=4, stream_options=options))
    so_far = [each["usage"]["completion_tokens"] for each in chunks]
    assert so_far == sorted(so_far)
    assert so_far[:2] == [0, 1]


async def test_choices_beyond_the_first_have_the_next_seeds(http, stack):
    answer = await post(http, CHAT, chat(max_tokens=8, n=3))
    assert [each["index"] for each in answer["choices"]] == [0, 1, 2]
    for choice in answer["choices"]:
        expected = await by_grpc(stack, 8, seed=5 + choice["index"])
        assert choice["message"]["content"] == expected.text
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["metrics"] is None


async def test_guesses_of_a_prediction_are_counted_over_all_choices(http):
    asked = chat(max_tokens=30, ignore_eos=True, temperature=0, logprobs=True, top_logprobs=1)
    (plain,) = (await post(http, CHAT, asked))["choices"]
    pieces = [each["token"] for each in plain["logprobs"]["content"]]
    text, parts = "".join(pieces), [{"type": "text", "text": each} for each in pieces]
    counts = []
    for content, n in ((text, 1), (parts, 2), ("", 1)):
        asked |= {"prediction": {"type": "content", "content": content}, "n": n}
        answer = await post(http, CHAT, asked)
        assert [each["message"] for each in answer["choices"]] == [plain["message"]] * n
        options = {"include_usage": True, "continuous_usage_stats": True}
        chunks = await streamed(http, CHAT, {**asked, "stream_options": options})
        assert chunks[-1]["usage"] == answer["usage"]
        details = answer["usage"]["completion_tokens_details"]
        assert details["rejected_prediction_tokens"] == 0
        counts.append(details["accepted_prediction_tokens"])
    assert 15 < counts[0] < 30
    assert counts[1:] == [2 * counts[0], 0]


async def test_the_parts_of_a_message_are_one_text(http):
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "bc"}]
    whole = await post(http, CHAT, chat(max_tokens=5))
    in_parts = await post(
        http, CHAT, chat(max_tokens=5, messages=[{"role": "user", "content": parts}])
    )
    assert in_parts["choices"][0]["message"] == whole["choices"][0]["message"]


async def test_logprobs_are_those_of_the_tokens(http):
    asked = chat(max_tokens=4, ignore_eos=True, logprobs=True, top_logprobs=2)
    (choice,) = (await post(http, CHAT, asked))["choices"]
    chunks = await streamed(http, CHAT, asked)
    content = choice["logprobs"]["content"]
    assert len(content) == 4
    assert all(len(each["top_logprobs"]) == 2 for each in content)
    assert all(bytes(each["bytes"]).decode() == each["token"] for each in content)
    pieces = [each["choices"][0]["logprobs"] for each in chunks if each["choices"][0]["logprobs"]]
    assert [each["content"][0] for each in pieces] == content


async def test_what_is_null_is_absent(http):
    asked = dict.fromkeys(("n", "stop", "temperature", "logprobs", "tools", "stream_options"))
    answer = await post(http, CHAT, chat(max_tokens=3, **asked))
    assert answer["choices"][0]["message"]["content"]
    assert MESSAGES == [{"role": "user", "content": "abc"}]
