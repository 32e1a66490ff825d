"""A session goes on without its draft, with the same text, and takes it back when it can."""

import asyncio
from contextlib import asynccontextmanager
from math import inf, nan

import pytest

from forethought.generation import GenerationParams
from forethought.v1 import common_pb2, draft_pb2
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.gates import gated
from tests.lifecycle.requests import Reader, asking, text_alone
from tests.lifecycle.servers import draft_tier_at, liar_at, stop_abruptly
from tests.stack import generate, running_stack
from tests.waiting import NOTHING_HELD, target_load, until

SOON = DraftPatience(open_s=20, round_s=20, first_backoff_s=0.05, max_backoff_s=0.05)


@asynccontextmanager
async def a_stack(target, draft, patience=SOON):
    """A stack whose target can be held, and the text that it gives without a draft."""
    target, gate = gated(target)
    async with running_stack(target, draft.proposer(), draft_patience=patience) as stack:
        try:
            yield stack, gate
        finally:
            gate.open()


@asynccontextmanager
async def reading(stack, request):
    """An answer that is read in the background. Leaving the context cancels it."""
    reader = Reader()
    task = asyncio.create_task(reader.read(stack.client, request))
    try:
        yield reader
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def says_what_the_target_says_alone(stack, reader):
    """Whether the tokens so far are those that the target says without a draft."""
    alone = await generate(
        stack.client, asking(max_tokens=len(reader.tokens), num_speculative_tokens=0)
    )
    return [token.token_id for token in reader.tokens] == alone.token_ids


async def test_a_draft_that_is_lost_in_the_stream_changes_no_text(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        expected = await text_alone(stack)
        gate.allow(8)
        async with reading(stack, asking()) as reader:
            await gate.until_holding()
            await stop_abruptly(stack.draft_server)
            gate.open()
            await until(lambda: reader.finished)
    assert reader.text == expected
    assert len(reader.steps[2].drafted) == 3
    assert not reader.steps[-1].drafted
    assert reader.finished.speculation.num_draft_failures > 0


async def test_a_draft_that_comes_back_is_used_again(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(8)
        async with reading(stack, asking(max_tokens=1000)) as reader:
            await gate.until_holding()
            await stop_abruptly(stack.draft_server)

            def has_gone_on_without():
                gate.allow(1)
                return reader.steps[-1:] and not reader.steps[-1].drafted

            await until(lambda: len(reader.steps) >= 6)
            await until(has_gone_on_without)
            num_before = len(reader.steps)

            def drafts_again():
                gate.allow(1)
                return any(step.drafted for step in reader.steps[num_before:-1])

            async with draft_tier_at(stack.draft_address, long_draft.proposer()):
                await until(drafts_again)
        gate.open()
        assert await says_what_the_target_says_alone(stack, reader)


async def test_a_draft_tier_that_was_never_there_is_done_without(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, _):
        await stop_abruptly(stack.draft_server)
        answer = await generate(stack.client, asking())
        assert answer.text == await text_alone(stack)
    assert answer.finished.speculation.num_draft_tokens == 0
    assert answer.finished.speculation.num_draft_failures > 0


async def test_a_draft_tier_that_appears_later_is_used(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        await stop_abruptly(stack.draft_server)
        gate.allow(3)
        async with reading(stack, asking(max_tokens=1000)) as reader:
            await gate.until_holding()

            def drafts():
                gate.allow(1)
                return any(step.drafted for step in reader.steps)

            async with draft_tier_at(stack.draft_address, long_draft.proposer()):
                await until(drafts)
        gate.open()
        assert await says_what_the_target_says_alone(stack, reader)


class TestALateDraft:
    PATIENCE = DraftPatience(open_s=20, round_s=1)

    async def test_is_not_waited_for_twice(self, long_target, long_draft):
        slow_draft, draft_gate = gated(long_draft)
        async with running_stack(
            long_target, slow_draft.proposer(), draft_patience=self.PATIENCE
        ) as stack:
            draft_gate.allow(0)
            answer = await generate(stack.client, asking(max_tokens=12))
            draft_gate.open()
            assert answer.text == await text_alone(stack, max_tokens=12)
        # The first round wants no draft, and the last has no room for one.
        assert answer.finished.speculation.num_draft_failures == 10
        assert answer.finished.speculation.num_draft_tokens == 0
        assert sum(step.speculation_ns >= 10**9 for step in answer.steps) == 1

    async def test_is_dropped_when_it_comes_and_the_next_one_is_used(self, long_target, long_draft):
        slow_draft, draft_gate = gated(long_draft)
        async with a_stack(long_target, slow_draft, self.PATIENCE) as (stack, gate):
            gate.allow(2)
            async with reading(stack, asking(max_tokens=1000)) as reader:
                await gate.until_holding()
                draft_gate.allow(0)
                gate.allow(6)
                await until(lambda: len(reader.steps) >= 7)
                draft_gate.open()

                def drafts_again():
                    gate.allow(1)
                    return any(step.drafted for step in reader.steps[7:])

                await until(drafts_again)
            gate.open()
            assert not any(step.drafted for step in reader.steps[2:7])
            assert await says_what_the_target_says_alone(stack, reader)


def token(token_id=3, support=(3, 4), probs=(0.5, 0.5)):
    return draft_pb2.DraftedToken(token_id=token_id, support_token_ids=support, draft_probs=probs)


def draft(request, *tokens, **changes):
    fields = {"round": request.round.round, "position": request.round.position} | changes
    return draft_pb2.SpeculateResponse(draft=draft_pb2.DraftRound(tokens=tokens, **fields))


OPENED = draft_pb2.SpeculateResponse(opened=common_pb2.SessionOpened())
NONSENSE = {
    "a support without its token": lambda request: draft(request, token(support=(4, 5))),
    "a support with a token twice": lambda request: draft(request, token(support=(3, 3))),
    "no support": lambda request: draft(request, token(support=(), probs=())),
    "too few probabilities": lambda request: draft(request, token(probs=(1,))),
    "too many probabilities": lambda request: draft(request, token(probs=(0.3, 0.3, 0.4))),
    "a probability of zero": lambda request: draft(request, token(probs=(0, 1))),
    "a negative probability": lambda request: draft(request, token(probs=(1.5, -0.5))),
    "a probability that is no number": lambda request: draft(request, token(probs=(nan, 1))),
    "an infinite probability": lambda request: draft(request, token(probs=(inf, 1))),
    "a token that the target does not have": lambda request: draft(
        request, token(token_id=12, support=(12, 3))
    ),
    "a support that the target does not have": lambda request: draft(
        request, token(support=(3, 2**32 - 1))
    ),
    "a support that is too large": lambda request: draft(
        request, token(support=range(300), probs=[1 / 300] * 300)
    ),
    "another round": lambda request: draft(request, token(), round=2**64 - 1),
    "another position": lambda request: draft(request, token(), position=2**32 - 1),
    "more tokens than asked": lambda request: draft(request, *[token()] * 4),
    "an opening": lambda request: OPENED,
    "an empty message": lambda request: draft_pb2.SpeculateResponse(),
    "bytes that are no message": lambda request: b"\xff\xff\xff",
    "an end": lambda request: None,
    "an exception": lambda request: 1 / 0,
}


@pytest.mark.parametrize("kind", NONSENSE)
async def test_a_draft_tier_that_talks_nonsense_is_done_without(tiny_target, kind):
    params = GenerationParams(temperature=0, ignore_eos=True, max_tokens=10)

    def answer(request):
        return OPENED if request.HasField("open") else NONSENSE[kind](request)

    async with running_stack(tiny_target, tiny_target.proposer(), draft_patience=SOON) as stack:
        await stop_abruptly(stack.draft_server)
        async with liar_at(stack.draft_address, answer):
            result = await generate(stack.client, asking(params, num_speculative_tokens=3))
        expected = await generate(stack.client, asking(params, num_speculative_tokens=0))
    assert result.text == expected.text
    assert result.finished.speculation.num_draft_tokens == 0
    assert result.finished.speculation.num_draft_failures > 0


async def test_probabilities_that_only_do_not_sum_to_one_are_taken_for_what_they_say(tiny_target):
    """The distribution is the numbers over their sum."""
    params = GenerationParams(temperature=0, ignore_eos=True, max_tokens=10)

    def answer(request):
        if request.HasField("open"):
            return OPENED
        return draft(request, token(probs=(1e-30, 3e-30)))

    async with running_stack(tiny_target, tiny_target.proposer()) as stack:
        await stop_abruptly(stack.draft_server)
        async with liar_at(stack.draft_address, answer):
            result = await generate(stack.client, asking(params, num_speculative_tokens=3))
        expected = await generate(stack.client, asking(params, num_speculative_tokens=0))
        assert stack.target.engine.load().num_sessions <= 1
    assert result.text == expected.text
    assert result.steps[1].drafted[0].draft_prob == pytest.approx(0.25)


async def test_a_draft_that_was_lost_leaves_nothing_on_the_target(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(8)
        async with reading(stack, asking()) as reader:
            await gate.until_holding()
            await stop_abruptly(stack.draft_server)
            gate.open()
            await until(lambda: reader.finished)

        async def target_is_free():
            return await target_load(stack.target_stub) == NOTHING_HELD

        await until(target_is_free)
