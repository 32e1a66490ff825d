"""However a call ends early, both tiers free what they held for it."""

import asyncio
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import grpc
import pytest

from forethought.errors import RemoteError
from forethought.rpc.codecs.generation.request import request_to_proto
from forethought.rpc.connections.channels import open_channel
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from orchestrator.generator import MAX_ROUNDS_AHEAD
from orchestrator.request import run_ahead
from tests.lifecycle.gates import cable_to, gated
from tests.lifecycle.requests import asking, text_alone
from tests.stack import running_stack
from tests.waiting import draft_load, target_load, until, until_nothing_is_held

LONG_ANSWER = asking(max_tokens=4000)
# About 200 bytes a round: far more than what fits between a server and a client that does not read.
HEAVY_ANSWER = asking(max_tokens=4000, num_speculative_tokens=1, logprobs=12)
# The window of a stream stays at 16 KiB, however fast the connection is.
NARROW = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16384),
    ("grpc.use_local_subchannel_pool", 1),
)
PROMPT_OF_FOUR_CHUNKS = [3, 4, 5] * 600


@asynccontextmanager
async def a_stack(target, draft):
    """A stack whose target can be held, in a call that the test ends."""
    target, gate = gated(target)
    async with running_stack(target, draft.proposer()) as stack:
        try:
            yield stack, gate
        finally:
            gate.open()


async def until_both_tiers_work(stack):
    async def is_busy():
        held = await draft_load(stack.draft_stub), await target_load(stack.target_stub)
        return all(load.num_sessions == 1 for load in held)

    await until(is_busy)


def until_given_up(engine):
    """Done once the engine has been told to end a session, before its next pass."""
    given_up = asyncio.get_running_loop().create_future()
    discard = engine.discard

    def discard_and_tell(sequence):
        discard(sequence)
        given_up.set_result(None)

    engine.discard = discard_and_tell
    return asyncio.wait_for(given_up, 60)


def call_of(stack, request, timeout=60):
    return stack.client._stubs[0].Generate(request_to_proto(request), timeout=timeout)


async def test_a_call_that_runs_holds_tokens_on_both_tiers(long_target, long_draft):
    """Without this the other tests would show nothing."""
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(5)
        call = call_of(stack, LONG_ANSWER)
        await gate.until_holding()
        held = await draft_load(stack.draft_stub), await target_load(stack.target_stub)
        assert all(load.num_sessions == 1 and load.num_cached_tokens > 3 for load in held)
        call.cancel()


async def test_cancelled_before_the_first_token(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(0)
        call = call_of(stack, LONG_ANSWER)
        await gate.until_holding()
        await until_both_tiers_work(stack)
        call.cancel()
        # The target is still at it; what it holds is freed when its pass ends.
        await until(lambda: stack.target.engine.load().num_queued_jobs)
        gate.open()
        await until_nothing_is_held(stack)


async def test_cancelled_in_the_stream(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, _):
        call = call_of(stack, LONG_ANSWER)
        for _ in range(5):
            await call.read()
        call.cancel()
        await until_nothing_is_held(stack)


async def test_left_by_the_python_client(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, _):
        events = stack.client.generate(LONG_ANSWER, timeout_s=60)
        for _ in range(5):
            await anext(events)
        await events.aclose()
        await until_nothing_is_held(stack)


async def test_cancelled_in_a_long_prefill_computes_no_further_chunk(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(1)
        call = call_of(stack, replace(asking(), prompt=PROMPT_OF_FOUR_CHUNKS))
        await gate.until_holding()
        is_given_up = until_given_up(stack.target.engine)
        call.cancel()
        await is_given_up
        gate.open()
        await until_nothing_is_held(stack)
        assert gate.num_passes == 2  # the one before, and the one that was under way


async def test_timed_out_in_the_stream(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        gate.allow(5)
        with pytest.raises(RemoteError) as caught:
            async for _ in stack.client.generate(LONG_ANSWER, timeout_s=1):
                pass
        assert caught.value.code == "DEADLINE_EXCEEDED"
        gate.open()
        await until_nothing_is_held(stack)


async def test_disconnected_without_a_word(long_target, long_draft):
    async with (
        a_stack(long_target, long_draft) as (stack, gate),
        cable_to(stack.address) as cable,
        open_channel(cable.address) as channel,
    ):
        gate.allow(5)
        stub = GenerationServiceStub(channel)
        call = stub.Generate(request_to_proto(LONG_ANSWER), timeout=60)
        await gate.until_holding()
        await until_both_tiers_work(stack)
        cable.cut()
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        gate.open()
        await until_nothing_is_held(stack)


async def test_a_channel_that_is_closed(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, _):
        async with open_channel(stack.address) as channel:
            stub = GenerationServiceStub(channel)
            call = stub.Generate(request_to_proto(LONG_ANSWER), timeout=60)
            await call.read()
        await until_nothing_is_held(stack)


class TestAClientThatStopsReading:
    async def test_holds_the_target_back(self, long_target, long_draft):
        async with self.stalled(long_target, long_draft, 60) as (stack, call, _):
            # Some rounds wait on the way. Far from all of them.
            assert (await target_load(stack.target_stub)).num_cached_tokens < 1000
            assert stack.target.engine.load().num_sessions == 1
            call.cancel()

    async def test_frees_everything_when_it_cancels(self, long_target, long_draft):
        async with self.stalled(long_target, long_draft, 60) as (stack, call, _):
            call.cancel()
            await until_nothing_is_held(stack)

    async def test_frees_everything_when_it_vanishes(self, long_target, long_draft):
        async with self.stalled(long_target, long_draft, 60) as (stack, _, cable):
            cable.cut()
            await until_nothing_is_held(stack)

    async def test_frees_everything_when_its_time_is_up(self, long_target, long_draft):
        async with self.stalled(long_target, long_draft, 5) as (stack, _, _):
            await until_nothing_is_held(stack)

    async def test_gets_the_rest_when_it_reads_again(self, long_target, long_draft):
        request = asking(HEAVY_ANSWER.params, max_tokens=200)
        async with self.stalled(long_target, long_draft, 60, request) as (stack, call, _):
            text = "".join([token.text async for message in call for token in message.tokens])
            assert text == await text_alone(stack, max_tokens=200)

    @asynccontextmanager
    async def stalled(self, target, draft, timeout_s, request=HEAVY_ANSWER):
        async with (
            a_stack(target, draft) as (stack, gate),
            cable_to(stack.address) as cable,
            grpc.aio.insecure_channel(cable.address, options=NARROW) as channel,
        ):
            stub = GenerationServiceStub(channel)
            with rounds_held_back() as are_held_back:
                call = stub.Generate(request_to_proto(request), timeout=timeout_s)
                await until(are_held_back)
            assert gate.num_passes > MAX_ROUNDS_AHEAD
            yield stack, call, cable
            call.cancel()


@contextmanager
def rounds_held_back():
    """Whether a round waits for its client, since as many as may be ahead of it wait already."""
    holding = []

    class Waiting(run_ahead._Waiting):
        async def put(self, item):
            holding.append(self) if self._queue.full() else None
            await super().put(item)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_ahead, "_Waiting", Waiting)
        yield lambda: holding
