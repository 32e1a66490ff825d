"""`include_steps`: the three steps of each round, by HTTP as by gRPC."""

import pytest

from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from tests.gateway.answers import CHAT, COMPLETIONS, chat, completion, post, streamed
from tests.stack import generate

pytestmark = pytest.mark.asyncio(loop_scope="module")

CLOCKS = {
    "speculation_ns",
    "verification_ns",
    "rejection_ns",
    "draft_timings",
    "target_timings",
    "lookahead",
}


def choices_of(chunks):
    return [each["choices"][0] for each in chunks]


def without_clocks(steps):
    return [{name: each[name] for name in each.keys() - CLOCKS} for each in steps]


async def test_the_steps_are_those_of_grpc(http, stack):
    answer = await post(http, CHAT, chat(max_tokens=12, ignore_eos=True, include_steps=True))
    (choice,) = answer["choices"]
    params = GenerationParams(12, seed=5, num_speculative_tokens=3, ignore_eos=True)
    request = GenerationRequest([ChatMessage("user", "abc")], params, include_steps=True)
    expected = await generate(stack.client, request)
    assert without_clocks(choice["steps"]) == [
        {
            "round": each.round,
            "position": each.position,
            "drafted": [
                {
                    "token_id": drafted.token_id,
                    "text": drafted.text,
                    "draft_prob": drafted.draft_prob,
                    "target_prob": drafted.target_prob,
                    "verdict": drafted.verdict.value,
                }
                for drafted in each.drafted
            ],
            "final_token_id": each.final.token_id,
            "final_text": each.final_text,
            "final_origin": each.final.origin.value,
            "final_target_prob": each.final.target_prob,
            "proposer": each.proposer,
        }
        for each in expected.steps
    ]
    assert choice["tokens"] == [
        {
            "index": each.index,
            "token_id": each.token_id,
            "text": each.text,
            "origin": each.origin.value,
            "draft_prob": each.draft_prob,
            "target_prob": each.target_prob,
        }
        for each in expected.tokens
    ]
    assert any(each["drafted"] for each in choice["steps"])
    assert all(each["verification_ns"] > 0 for each in choice["steps"])
    assert all(each["target_timings"]["forward_ns"] > 0 for each in choice["steps"])


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat), (COMPLETIONS, completion)])
async def test_a_stream_has_each_round_before_its_tokens(http, path, body):
    asked = body(max_tokens=12, ignore_eos=True, include_steps=True)
    (whole,) = (await post(http, path, asked))["choices"]
    parts = choices_of(await streamed(http, path, asked))
    steps = [each for part in parts for each in part.get("steps", [])]
    tokens = [each for part in parts for each in part.get("tokens", [])]
    assert without_clocks(steps) == without_clocks(whole["steps"])
    assert tokens == whole["tokens"]
    begin = steps[0]["position"]
    known = begin
    for part in parts:
        for step in part.get("steps", []):
            num_accepted = sum(each["verdict"] == "accepted" for each in step["drafted"])
            known = step["position"] + num_accepted + 1
        for token in part.get("tokens", []):
            assert begin + token["index"] < known


async def test_each_choice_has_its_own_steps(http):
    answer = await post(http, CHAT, chat(max_tokens=6, ignore_eos=True, n=2, include_steps=True))
    for choice in answer["choices"]:
        told = "".join(each["text"] for each in choice["tokens"])
        assert told == choice["message"]["content"]
        assert choice["steps"][0]["round"] == 0


@pytest.mark.parametrize(("path", "body"), [(CHAT, chat), (COMPLETIONS, completion)])
async def test_who_does_not_ask_for_steps_gets_none(http, path, body):
    (whole,) = (await post(http, path, body(max_tokens=6)))["choices"]
    parts = choices_of(await streamed(http, path, body(max_tokens=6)))
    for part in (whole, *parts):
        assert not part.keys() & {"steps", "tokens"}
