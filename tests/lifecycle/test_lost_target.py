"""A session survives the loss of its target, if a target comes back in time."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from forethought.errors import InvalidArgumentError, ModelMismatchError, TierUnavailableError
from forethought.generation import GenerationRequest, PromptToken
from forethought.v1.target_pb2 import VerifyRequest
from orchestrator.tiers.patience import ReopenOptions
from orchestrator.tiers.tier_stream import TierStream
from tests.lifecycle.gates import gated
from tests.lifecycle.requests import GREEDY, SEEDED, Reader, asking
from tests.lifecycle.servers import stop_abruptly, target_tier_at
from tests.stack import generate, running_stack
from tests.waiting import draft_load, until

PATIENT = ReopenOptions(patience_s=30, interval_s=0.05)
IMPATIENT = ReopenOptions(patience_s=0.3, interval_s=0.05)


@asynccontextmanager
async def a_stack(target, draft, reopen):
    target, gate = gated(target)
    async with running_stack(target, draft.proposer(), reopen=reopen) as stack:
        try:
            yield stack, gate
        finally:
            gate.open()


@asynccontextmanager
async def losing_its_target(stack, gate, request, num_passes):
    """An answer that is read in the background, and whose target has just been lost."""
    gate.allow(num_passes)
    reader = Reader()
    task = asyncio.create_task(reader.read(stack.client, request))
    try:
        await gate.until_holding()
        await stop_abruptly(stack.target_server)
        gate.open()
        yield reader, task
    finally:
        task.cancel()


def verdicts(steps):
    """Token and verdict of all guesses; probabilities, computed anew, may round otherwise."""
    return [[(token.token_id, token.verdict) for token in step.drafted] for step in steps]


@pytest.mark.parametrize("num_passes", [0, 2, 9], ids="after {} passes".format)
@pytest.mark.parametrize("params", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_a_target_that_comes_back_goes_on_with_the_same_text(
    long_target, long_draft, params, num_passes
):
    async with a_stack(long_target, long_draft, PATIENT) as (stack, gate):
        expected = await generate(stack.client, asking(params))
        lost = losing_its_target(stack, gate, asking(params), num_passes)
        async with lost as (reader, task), target_tier_at(stack.target_address, long_target):
            await task
    assert reader.text == expected.text
    assert [token.token_id for token in reader.tokens] == expected.token_ids
    assert verdicts(reader.steps) == verdicts(expected.steps)


async def test_a_prompt_is_told_once_whose_target_is_lost_and_comes_back(long_target, long_draft):
    asked = GenerationRequest((3, 4, 5) * 10, replace(GREEDY, prompt_logprobs=1))

    async def events(stack):
        return [event async for event in stack.client.generate(asked)]

    async with a_stack(long_target, long_draft, PATIENT) as (stack, gate):
        answers = [await events(stack)]
        gate.allow(2)
        reading = asyncio.create_task(events(stack))
        await gate.until_holding()
        await stop_abruptly(stack.target_server)
        gate.open()
        async with target_tier_at(stack.target_address, long_target):
            answers.append(await reading)
    before, told = (
        [each for each in answer if isinstance(each, PromptToken)] for answer in answers
    )
    assert [each.token_id for each in told] == list(asked.prompt)
    for each, other in zip(told[1:], before[1:], strict=True):
        assert each.logprob == pytest.approx(other.logprob, abs=1e-4)


async def test_a_target_that_is_lost_again_and_again_changes_no_text(long_target, long_draft):
    async with a_stack(long_target, long_draft, PATIENT) as (stack, gate):
        expected = await generate(stack.client, asking(SEEDED))
        async with losing_its_target(stack, gate, asking(SEEDED), 4) as (reader, task):
            for _ in range(3):
                held, again = gated(long_target)
                again.allow(4)
                async with target_tier_at(stack.target_address, held) as server:
                    await again.until_holding()
                    await stop_abruptly(server)
                    again.open()
            async with target_tier_at(stack.target_address, long_target):
                await task
    assert reader.text == expected.text


async def test_a_target_that_is_gone_for_good_is_unavailable_when_patience_ends(
    long_target, long_draft
):
    async with a_stack(long_target, long_draft, IMPATIENT) as (stack, gate):
        async with losing_its_target(stack, gate, asking(), 9) as (reader, task):
            with pytest.raises(TierUnavailableError, match="target tier") as caught:
                await task
        assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "TIER_UNAVAILABLE")
        assert reader.tokens

        async def draft_is_free():
            load = await draft_load(stack.draft_stub)
            return not load.num_sessions

        await until(draft_is_free)


async def test_a_target_that_was_never_there_is_unavailable_when_patience_ends(
    long_target, long_draft
):
    async with a_stack(long_target, long_draft, IMPATIENT) as (stack, _):
        await stop_abruptly(stack.target_server)
        with pytest.raises(TierUnavailableError):
            await generate(stack.client, asking())


async def test_a_request_to_a_stream_that_has_just_ended_is_no_internal_error(long_target):
    """grpc.aio says INTERNAL of a write between the end of a stream and the news of it."""
    async with running_stack(long_target) as stack:
        for _ in range(100):
            stream = TierStream(stack.target_stub.Verify(timeout=20))
            with pytest.raises((InvalidArgumentError, TierUnavailableError)):
                await send_without_end(stream)
            stream.close()


async def send_without_end(stream):
    while True:
        await stream.send(VerifyRequest())


async def test_another_model_in_place_of_a_lost_target_is_refused(long_target, long_draft):
    async with a_stack(long_target, long_draft, PATIENT) as (stack, gate):
        lost = losing_its_target(stack, gate, asking(), 9)
        async with lost as (_, task), target_tier_at(stack.target_address, long_draft):
            with pytest.raises(ModelMismatchError):
                await task


async def test_another_model_in_place_of_the_target_is_refused_before_it_serves_anything(
    long_target, long_draft
):
    async with a_stack(long_target, long_draft, PATIENT) as (stack, _):
        await stop_abruptly(stack.target_server)
        async with target_tier_at(stack.target_address, long_draft):
            with pytest.raises(ModelMismatchError, match="start the orchestrator again"):
                await generate(stack.client, asking())
