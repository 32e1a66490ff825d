"""A closed loop: workers that each send the next request when their last one is answered.

So `concurrency` requests are under way at any time, until none is left to send. The load follows
the server: a slow one gets fewer requests a second, never a growing queue.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from forethought.generation import SpeculationStatistics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One answered request, as its client saw it. Times are seconds since it was sent."""

    first_token_s: float
    last_token_s: float
    num_tokens: int
    speculation: SpeculationStatistics | None = None  # None from servers that report none

    @property
    def time_per_output_token_s(self) -> float | None:
        """Mean seconds from a token to the next; None for fewer than two tokens."""
        if self.num_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.num_tokens - 1)


Send = Callable[[int], Awaitable[Sample]]
"""Sends the request with this index (0, 1, ...) and waits for all of its answer."""


@dataclass(frozen=True, slots=True)
class Burst:
    """All requests of one run at one concurrency."""

    arm: str
    concurrency: int
    wall_s: float  # from the first request sent to the last one answered
    samples: tuple[Sample, ...]  # in the order in which they were answered


async def run_burst(
    send: Callable[[int], Awaitable[T]],
    concurrency: int,
    num_requests: int,
    on_answer: Callable[[T], None],
) -> tuple[float, tuple[T, ...]]:
    """Sends requests 0 to `num_requests` - 1, `concurrency` at a time.

    Returns:
        Wall-clock seconds, and what `send` returned, in the order of the answers.

    Raises:
        Exception: what `send` raised first; the other requests are cancelled.
    """
    indices = iter(range(num_requests))
    samples: list[T] = []

    async def work() -> None:
        for index in indices:
            sample = await send(index)
            samples.append(sample)
            on_answer(sample)

    started = perf_counter()
    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(min(concurrency, num_requests)):
                workers.create_task(work())
    except BaseExceptionGroup as group:
        raise _first(group) from None
    return perf_counter() - started, tuple(samples)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
