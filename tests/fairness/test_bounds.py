"""What is too large is refused before anything is made of it, whatever the tokenizer."""

from dataclasses import replace

import pytest

from forethought.rpc.connections.channels import open_channel
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from orchestrator.request.bounds import MAX_BYTES_PER_TOKEN, MAX_DETOKENIZED, MAX_MESSAGES
from tests.errors.refusals import read_to_end, refusal_of
from tests.orchestrator.test_long_prompts import WatchedTokenizer
from tests.stack import running_stack

MAX_LEN = 256
MOST_BYTES = MAX_BYTES_PER_TOKEN * MAX_LEN
LONG_TEXTS = {
    "a text": "a" * (MOST_BYTES + 1),
    "a text of wide characters": "世" * (MOST_BYTES // 3 + 1),
    "a text of nothing": "\u200b" * (MOST_BYTES // 3 + 1),
}


def conversation(*contents: str, role: str = "user") -> pb.Conversation:
    return pb.Conversation(
        messages=[pb.ChatMessage(role=role, content=content) for content in contents]
    )


LARGE_CONVERSATIONS = {
    "many messages": conversation(*[""] * (MAX_MESSAGES + 1)),
    "a long message": conversation("a" * MOST_BYTES),
    "many long messages": conversation(*["a" * 100] * 50),
    "a long role": conversation("a", role="a" * MOST_BYTES),
}
PROMPTS = {
    **{name: ({"text": text}, "prompt.text") for name, text in LONG_TEXTS.items()},
    **{
        name: ({"conversation": said}, "prompt.conversation")
        for name, said in LARGE_CONVERSATIONS.items()
    },
    "many tokens": ({"token_ids": pb.TokenIds(token_ids=[3] * 100_000)}, "prompt.token_ids"),
    "a next turn of many messages": (
        {"follow_up": pb.FollowUp(conversation=LARGE_CONVERSATIONS["many messages"])},
        "prompt.follow_up",
    ),
}
INPUTS = {
    **{name: {"text": text} for name, text in LONG_TEXTS.items()},
    **{name: {"conversation": said} for name, said in LARGE_CONVERSATIONS.items()},
}


@pytest.fixture
async def served(tiny_target):
    """A deployment's stub, and what its tokenizer was asked for."""
    watched = replace(tiny_target, tokenizer=WatchedTokenizer(tiny_target.tokenizer))
    async with (
        running_stack(watched) as stack,
        open_channel(stack.address) as channel,
    ):
        watched.tokenizer.calls.clear()
        yield GenerationServiceStub(channel), watched.tokenizer


def untouched(tokenizer: WatchedTokenizer) -> bool:
    return not any(tokenizer.threads(name) for name in ("encode", "decode", "render_chat"))


@pytest.mark.parametrize("name", PROMPTS)
async def test_a_prompt_that_is_too_large_is_refused_unseen(served, name):
    generation, tokenizer = served
    prompt, field = PROMPTS[name]
    refusal = await refusal_of(read_to_end(generation.Generate(pb.GenerateRequest(**prompt))))
    assert refusal.code == "INVALID_ARGUMENT"
    assert list(refusal.violations) == [field]
    assert "at most" in refusal.violations[field]
    assert untouched(tokenizer)


@pytest.mark.parametrize("name", INPUTS)
async def test_what_is_too_large_to_tokenize_is_refused_unseen(served, name):
    generation, tokenizer = served
    given = INPUTS[name]
    refusal = await refusal_of(generation.Tokenize(pb.TokenizeRequest(**given)))
    assert refusal.code == "INVALID_ARGUMENT"
    assert list(refusal.violations) == list(given)
    assert untouched(tokenizer)


async def test_too_many_tokens_are_not_detokenized(served):
    generation, tokenizer = served
    request = pb.DetokenizeRequest(token_ids=[3] * (MAX_DETOKENIZED + 1))
    refusal = await refusal_of(generation.Detokenize(request))
    assert list(refusal.violations) == ["token_ids"]
    assert untouched(tokenizer)


async def test_many_tokens_are_detokenized(served):
    generation, _ = served
    answer = await generation.Detokenize(pb.DetokenizeRequest(token_ids=[3] * MAX_DETOKENIZED))
    assert answer.text == "a" * MAX_DETOKENIZED


async def test_a_template_that_makes_much_of_little_is_refused_before_it_is_tokenized(served):
    generation, tokenizer = served
    # The template ends each message with `</s>`.
    said = conversation(*[""] * 1500, role="")
    refusal = await refusal_of(generation.Tokenize(pb.TokenizeRequest(conversation=said)))
    assert list(refusal.violations) == ["prompt.conversation"]
    assert not tokenizer.threads("encode")
