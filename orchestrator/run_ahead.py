"""Lets a producer go on while its consumer is busy.

The next round of the loop begins while the tokens of the last one are on their way to the store and
to the client. A client that reads slowly holds it back after `depth` items.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar

from forethought.errors import TierUnavailableError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


async def run_ahead(source: AsyncGenerator[Item], depth: int) -> AsyncGenerator[list[Item]]:
    """The items of `source`, which runs in a task of its own, at most `depth` items ahead.

    They come in batches, each of all that there are by then, at least one. Errors of the source
    are raised here, after the items before them. Closing this closes the source.

    Raises:
        TierUnavailableError: the source was cancelled from below, as gRPC does with those who read
            from a call that ends with its channel.
    """
    queue: asyncio.Queue[Item | _End] = asyncio.Queue(depth)

    async def produce() -> None:
        error: Exception | None = None
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put(item)
        except asyncio.CancelledError:
            if is_closing:
                raise
            error = TierUnavailableError("a call to a tier was cancelled while it was under way")
        except Exception as raised:  # noqa: BLE001 - raised again where the items are taken
            error = raised
        await queue.put(_End(error))

    is_closing = False
    producer = asyncio.create_task(produce())
    try:
        end: _End | None = None
        while end is None:
            batch, end = await _take_all(queue)
            if batch:
                yield batch
        if end.error is not None:
            raise end.error
    finally:
        is_closing = True
        producer.cancel()
        await asyncio.wait((producer,))


async def _take_all(queue: "asyncio.Queue[Item | _End]") -> tuple[list[Item], _End | None]:
    """All that is in the queue, once there is something; and its end, if that has come."""
    batch: list[Item] = []
    item = await queue.get()
    while not isinstance(item, _End):
        batch.append(item)
        if queue.empty():
            return batch, None
        item = queue.get_nowait()
    return batch, item
