"""Something to say while a stream has nothing new."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

Item = TypeVar("Item")

INTERVAL_S = 0.5
"""Silence after which something is said, and said again."""


class _End:
    """The source has ended."""


async def with_ticks(
    source: AsyncIterator[Item], tick: Callable[[], Item | None], interval_s: float = INTERVAL_S
) -> AsyncGenerator[Item]:
    """The items of `source`, and what `tick` has to say in each interval in which none comes.

    It costs a task for each item, so use it for streams whose reader asked for that. Closing it
    ends the waiting for an item; the source is its owner's to close.
    """

    async def take() -> Item | _End:
        return await anext(source, _End())

    while True:
        taking = asyncio.ensure_future(take())
        try:
            while not (await asyncio.wait((taking,), timeout=interval_s))[0]:
                said = tick()
                if said is not None:
                    yield said
        finally:
            if not taking.done():
                taking.cancel()
                await asyncio.wait((taking,))
        item = taking.result()
        if isinstance(item, _End):
            return
        yield item
