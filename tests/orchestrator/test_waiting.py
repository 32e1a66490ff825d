"""What an answer waits for is told to whoever asked for that, and changes nothing else."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from forethought.engine.batching.scheduler import SchedulerOptions
from forethought.generation import GenerationParams, GenerationRequest, Token, Waiting
from forethought.rpc.ticking import with_ticks
from tests.lifecycle.gates import gated
from tests.stack import LIMITS, LoadedModel, running_stack

LONG = GenerationRequest(
    [3, 5, 7, 4] * 40,
    GenerationParams(max_tokens=8, temperature=0, ignore_eos=True, num_speculative_tokens=2),
    include_progress=True,
)
PIECES = replace(LIMITS, scheduler=SchedulerOptions(max_tokens=32))


async def test_a_long_prompt_says_how_far_it_is(tiny_target: LoadedModel):
    target, gate = gated(tiny_target)
    async with running_stack(target, tiny_target.proposer(), limits=PIECES) as stack:
        gate.allow(2)
        told, tokens = [], []
        async with aclosing(stack.client.generate(LONG, timeout_s=60)) as events:
            async for event in events:
                if isinstance(event, Waiting):
                    told.append(event)
                    if event.num_computed_tokens == 64:
                        gate.open()
                elif isinstance(event, Token):
                    tokens.append(event)
        plain = replace(LONG, prompt=[*LONG.prompt], include_progress=False)
        events = [event async for event in stack.client.generate(plain, timeout_s=60)]
    assert Waiting(64, 159) in told
    assert not any(isinstance(event, Waiting) for event in events)
    assert [each.token_id for each in tokens] == [
        event.token_id for event in events if isinstance(event, Token)
    ]


async def test_a_lost_target_is_told_while_another_one_is_looked_for(tiny_target: LoadedModel):
    target, gate = gated(tiny_target)
    async with running_stack(target, tiny_target.proposer()) as stack:
        gate.allow(1)
        async with aclosing(stack.client.generate(LONG, timeout_s=60)) as events:
            await anext(events)  # it has begun
            await stack.target_server._server.stop(None)
            while not (isinstance(event := await anext(events), Waiting) and event.is_target_lost):
                pass
        gate.open()


async def test_a_stream_with_nothing_new_says_what_there_is_and_loses_nothing():
    more = asyncio.Event()
    said = iter(["one", None, "two"])

    async def source():
        yield 1
        await more.wait()
        yield 2

    def tick():
        word = next(said, None)
        if word == "two":
            more.set()
        return word

    items = [item async for item in with_ticks(source(), tick, interval_s=0.001)]
    assert items == [1, "one", "two", 2]


async def test_closing_a_stream_while_it_waits_ends_the_waiting():
    ended = asyncio.Event()

    async def source():
        try:
            await asyncio.Event().wait()
            yield 1
        finally:
            ended.set()

    async with aclosing(with_ticks(source(), lambda: 0, interval_s=0.001)) as items:
        assert await anext(items) == 0
    assert ended.is_set()
