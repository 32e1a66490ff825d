"""Lets a producer go on while its consumer is busy, or rests.

The next round of the loop begins while the tokens of the last one are on their way to the store and
to the client. A client that reads slowly holds it back after `depth` items.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from forethought.errors import TierUnavailableError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


async def run_ahead(
    source: AsyncGenerator[Item],
    depth: int,
    rest_s: Callable[[Sequence[Item]], float] = lambda _: 0.0,
) -> AsyncGenerator[list[Item]]:
    """The items of `source`, which runs in a task of its own, at most `depth` items ahead.

    They come in batches, each of all that there are by then, at least one. Errors of the source
    are raised here, after the items before them. Closing this closes the source.

    Args:
        source: of the items.
        depth: most items that wait.
        rest_s: seconds from when a batch was taken to when the next one is, at least; unless the
            source ends or `depth` items wait before.

    Raises:
        TierUnavailableError: the source was cancelled from below, as gRPC does with those who read
            from a call that ends with its channel.
    """

    async def produce() -> None:
        error: BaseException | None = None
        try:
            async with aclosing(source):
                async for item in source:
                    await waiting.put(item)
        except asyncio.CancelledError:
            if is_closing:
                raise
            error = TierUnavailableError("a call to a tier was cancelled while it was under way")
        except BaseException as raised:  # noqa: BLE001 - raised again where the items are taken
            error = raised
        await waiting.put(_End(error))

    is_closing = False
    waiting: _Waiting[Item] = _Waiting(depth)
    producer = asyncio.create_task(produce())
    try:
        end: _End | None = None
        while end is None:
            batch, end = await waiting.take_all()
            if batch:
                waiting.rest(rest_s(batch))
                yield batch
        if end.error is not None:
            raise end.error
    finally:
        is_closing = True
        waiting.rest(0)
        producer.cancel()
        await asyncio.wait((producer,))


class _Waiting(Generic[Item]):
    """Items that nobody has taken yet."""

    def __init__(self, depth: int) -> None:
        self._queue: asyncio.Queue[Item | _End] = asyncio.Queue(depth)
        self._may_be_taken = asyncio.Event()
        self._may_be_taken.set()
        self._rest: asyncio.TimerHandle | None = None

    async def put(self, item: Item | _End) -> None:
        """Adds one, when there is room."""
        await self._queue.put(item)
        if self._queue.full() or isinstance(item, _End):
            self.rest(0)

    async def take_all(self) -> tuple[list[Item], _End | None]:
        """All that wait, once there is something and the rest is over; and the end, if that has
        come.
        """
        await self._may_be_taken.wait()
        batch: list[Item] = []
        item = await self._queue.get()
        while not isinstance(item, _End):
            batch.append(item)
            if self._queue.empty():
                return batch, None
            item = self._queue.get_nowait()
        return batch, item

    def rest(self, seconds: float) -> None:
        """Nothing is taken for so long; with 0 the rest is over."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if seconds > 0:
            self._may_be_taken.clear()
            self._rest = asyncio.get_running_loop().call_later(seconds, self._may_be_taken.set)
        else:
            self._may_be_taken.set()
