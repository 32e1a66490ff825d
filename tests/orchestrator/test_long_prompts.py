"""Prompts of any length leave the event loop to others."""

import threading
from dataclasses import replace

import pytest
import structlog

from forethought.errors import InvalidArgumentError, OverloadedError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.models.text.tokenizer import TextTokenizer
from orchestrator import servicer
from orchestrator.request.plan import Deployment, plan_generation
from orchestrator.request.text_pool import MAX_INLINE_BYTES
from tests.stack import LoadedModel, generate, running_stack

LONG = "ab" * MAX_INLINE_BYTES
SHORT = GenerationRequest("abc", GenerationParams(max_tokens=100, ignore_eos=True), "mine")


class WatchedTokenizer:
    """Remembers what it was asked to do, and in which threads."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self.calls: list[tuple[str, threading.Thread]] = []

    def __getattr__(self, name: str):
        self.calls.append((name, threading.current_thread()))
        return getattr(self._tokenizer, name)

    def threads(self, name: str) -> list[threading.Thread]:
        return [thread for called, thread in self.calls if called == name]


@pytest.fixture
def watched(tiny_target: LoadedModel) -> LoadedModel:
    return replace(tiny_target, tokenizer=WatchedTokenizer(tiny_target.tokenizer))


async def test_long_text_is_worked_on_in_a_thread(watched: LoadedModel):
    async with running_stack(watched) as stack:
        with pytest.raises(InvalidArgumentError):
            await generate(stack.client, GenerationRequest(LONG))
        with pytest.raises(InvalidArgumentError):
            await stack.client.tokenize(LONG)
        await stack.client.detokenize([3] * 5000)
    threads = watched.tokenizer.threads("encode") + watched.tokenizer.threads("decode")
    assert len(threads) == 3
    assert threading.main_thread() not in threads


async def test_a_request_that_finds_no_room_is_not_even_read(watched: LoadedModel):
    async with running_stack(watched, max_requests=1) as stack:
        running = stack.client.generate(SHORT, timeout_s=20)
        await anext(running)
        with pytest.raises(OverloadedError):
            await generate(stack.client, GenerationRequest(LONG))
        await running.aclose()
    assert len(watched.tokenizer.threads("encode")) == 1


def test_text_that_cannot_fit_is_refused_without_being_tokenized(
    byte_tokenizer: TextTokenizer, tiny_target: LoadedModel
):
    # The fixture's tokenizer cuts nothing before it merges, so it is not one of those.
    tokenizer = WatchedTokenizer(byte_tokenizer)
    tokenizer.min_num_tokens = lambda text: len(text) // 6
    deployment = Deployment(tokenizer, tiny_target.info, 3, 8)
    with pytest.raises(InvalidArgumentError, match="at least"):
        plan_generation(GenerationRequest("x" * 100_000), deployment)
    assert not tokenizer.threads("encode")


async def test_logs_of_a_call_tell_whose_it_is(tiny_target: LoadedModel, monkeypatch):
    bound = []

    def remember(*arguments):
        bound.append(structlog.contextvars.get_contextvars())
        return told(*arguments)

    told = servicer.told
    monkeypatch.setattr(servicer, "told", remember)
    async with running_stack(tiny_target, lookups=[tiny_target.ngram()]) as stack:
        answer = await generate(stack.client, SHORT)
        await generate(stack.client, replace(SHORT, request_id=""))
    assert bound[0] == {"request_id": "mine", "session_id": answer.started.session_id}
    assert set(bound[1]) == {"session_id"}
