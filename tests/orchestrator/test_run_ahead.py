"""A producer that runs ahead ends its consumer however it ends itself."""

import asyncio

import pytest

from forethought.errors import TierUnavailableError
from orchestrator.request.run_ahead import run_ahead
from tests.simulated_time import in_simulated_time


async def test_a_source_that_is_cancelled_from_below_is_an_error_and_no_endless_wait():
    async def source():
        yield 1
        raise asyncio.CancelledError

    items = run_ahead(source(), 4)
    async with asyncio.timeout(30):
        assert await anext(items) == [1]
        with pytest.raises(TierUnavailableError):
            await anext(items)


async def test_closing_the_consumer_closes_a_source_that_waits():
    closed = asyncio.Event()

    async def source():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.set()

    items = run_ahead(source(), 4)
    assert await anext(items) == [1]
    await items.aclose()
    assert closed.is_set()


class Panic(BaseException):
    """What a library in Rust ends with: no Exception."""


@pytest.mark.parametrize("error", [ValueError, Panic])
async def test_an_error_comes_after_the_items_before_it(error):
    async def source():
        yield 1
        raise error("broken")

    items = run_ahead(source(), 4)
    async with asyncio.timeout(30):
        assert await anext(items) == [1]
        with pytest.raises(error, match="broken"):
            await anext(items)


async def test_what_waits_comes_in_one_batch():
    async def source():
        for number in range(6):
            yield number

    batches = [batch async for batch in run_ahead(source(), 4)]
    assert batches[0] == [0, 1, 2, 3]
    assert [item for batch in batches for item in batch] == [0, 1, 2, 3, 4, 5]


class Restless:
    """Items that come when the test says so."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | None] = asyncio.Queue()

    async def __call__(self):
        while (item := await self.queue.get()) is not None:
            yield item


@in_simulated_time
async def test_what_comes_in_a_rest_is_taken_together_after_it():
    source = Restless()
    loop = asyncio.get_running_loop()
    batches = run_ahead(source(), 8, lambda batch: 0.1 if 2 in batch else 0.0)
    for number in (1, 2):
        source.queue.put_nowait(number)
        assert await anext(batches) == [number]
    began = loop.time()
    for number in (3, 4):
        source.queue.put_nowait(number)
        await asyncio.sleep(0.02)
    assert await anext(batches) == [3, 4]
    assert loop.time() - began >= 0.09
    source.queue.put_nowait(5)
    assert await anext(batches) == [5]  # nobody asked for a rest after 3 and 4
    await batches.aclose()


@pytest.mark.parametrize("depth", [1, 2, 4])
async def test_a_full_queue_ends_a_rest(depth):
    async def source():
        for number in range(depth + 1):
            yield number

    batches = run_ahead(source(), depth, lambda _: 3600.0)
    async with asyncio.timeout(30):
        assert [item async for batch in batches for item in batch] == list(range(depth + 1))


async def test_the_end_of_the_source_ends_a_rest():
    source = Restless()
    batches = run_ahead(source(), 8, lambda _: 3600.0)
    source.queue.put_nowait(1)
    async with asyncio.timeout(30):
        assert await anext(batches) == [1]
        source.queue.put_nowait(2)
        source.queue.put_nowait(None)
        assert await anext(batches) == [2]
        with pytest.raises(StopAsyncIteration):
            await anext(batches)
