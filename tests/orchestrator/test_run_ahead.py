"""A producer that runs ahead ends its consumer however it ends itself."""

import asyncio

import pytest

from forethought.errors import TierUnavailableError
from orchestrator.run_ahead import run_ahead


async def test_a_source_that_is_cancelled_from_below_is_an_error_and_no_endless_wait():
    async def source():
        yield 1
        raise asyncio.CancelledError

    items = run_ahead(source(), 4)
    async with asyncio.timeout(5):
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


async def test_an_error_comes_after_the_items_before_it():
    async def source():
        yield 1
        raise ValueError("broken")

    items = run_ahead(source(), 4)
    assert await anext(items) == [1]
    with pytest.raises(ValueError, match="broken"):
        await anext(items)


async def test_what_waits_comes_in_one_batch():
    async def source():
        for number in range(6):
            yield number

    batches = [batch async for batch in run_ahead(source(), 4)]
    assert batches[0] == [0, 1, 2, 3]
    assert [item for batch in batches for item in batch] == [0, 1, 2, 3, 4, 5]
