"""One timer for all waits of a stream: none waits too long, and a token makes no timer."""

import asyncio

import pytest

from forethought.runtime.wait_limit import WaitLimit
from orchestrator.tiers.tier_stream import TierStream
from tests.lifecycle.requests import asking
from tests.simulated_time import in_simulated_time
from tests.stack import generate, running_stack


@in_simulated_time
async def test_a_wait_that_takes_too_long_ends_in_time_whatever_was_waited_for_before():
    loop = asyncio.get_running_loop()
    limit = WaitLimit(10)
    for _ in range(7):
        await limit.wait(asyncio.sleep(4))
        await asyncio.sleep(1)
    began_s = loop.time()
    with pytest.raises(TimeoutError):
        await limit.wait(asyncio.Event().wait())
    assert loop.time() - began_s == pytest.approx(10)
    assert await limit.wait(asyncio.sleep(9, "in time again")) == "in time again"


@in_simulated_time
async def test_what_is_waited_for_is_cancelled_and_the_waiting_task_is_not():
    was_cancelled = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.set()
            raise

    with pytest.raises(TimeoutError):
        await WaitLimit(1).wait(stubborn())
    assert was_cancelled.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@in_simulated_time
async def test_a_task_that_is_cancelled_while_it_waits_is_cancelled():
    async def wait() -> None:
        await WaitLimit(10).wait(asyncio.Event().wait())

    task = asyncio.create_task(wait())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_simulated_time
async def test_a_task_that_is_cancelled_just_when_its_wait_takes_too_long_is_cancelled():
    async def wait() -> None:
        await WaitLimit(10).wait(asyncio.Event().wait())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(10, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


@in_simulated_time
async def test_a_request_without_a_limit_makes_no_timer(monkeypatch):
    class Call:
        async def write(self, message):
            assert message == "request"

    def refuse(*_):
        raise AssertionError("a timer was made")

    monkeypatch.setattr(asyncio.get_running_loop(), "call_at", refuse)
    await TierStream(Call()).send("request")


async def test_tokens_make_no_timers(long_target, monkeypatch):
    loop, num_timers = asyncio.get_running_loop(), 0
    call_at = loop.call_at

    def count(*args, **kwargs):
        nonlocal num_timers
        num_timers += 1
        return call_at(*args, **kwargs)

    async with running_stack(long_target) as stack:
        await generate(stack.client, asking(max_tokens=4, num_speculative_tokens=0))
        monkeypatch.setattr(loop, "call_at", count)
        answer = await generate(stack.client, asking(max_tokens=200, num_speculative_tokens=0))
        monkeypatch.undo()
    assert len(answer.tokens) == 200
    assert num_timers < 100
