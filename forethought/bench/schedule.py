"""Arms take turns, so that what else the machine does disturbs them alike.

At each concurrency of each repeat every arm runs once; who goes first changes from one to the
next. No arm ever runs beside another.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from forethought.bench.closed_loop import Burst, Sample, Send, run_burst

_LEAST_REQUESTS = 8


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the things compared."""

    name: str
    send: Send
    max_concurrency: int | None = None  # left out of the points above


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which points are measured, and how often."""

    concurrencies: tuple[int, ...]
    repeats: int
    num_requests: int | None = None  # a point; None: twice the concurrency, at least 8
    pause_s: float = 0.0  # before each burst, until the last arm's threads have gone to sleep

    def num_requests_at(self, concurrency: int) -> int:
        """Requests of one burst: at least `concurrency`, or it would not be reached."""
        wanted = self.num_requests or max(_LEAST_REQUESTS, 2 * concurrency)
        return max(wanted, concurrency)

    def turns(self, arms: Sequence[Arm]) -> list[tuple[int, Arm]]:
        """Concurrency and arm of each burst, in order."""
        turns = []
        for repeat in range(self.repeats):
            for place, concurrency in enumerate(self.concurrencies):
                able = [arm for arm in arms if concurrency <= (arm.max_concurrency or concurrency)]
                first = (repeat + place) % max(len(able), 1)
                turns += [(concurrency, arm) for arm in able[first:] + able[:first]]
        return turns


class Watcher(Protocol):
    """Hears how far the measurement is."""

    def warming_up(self, arm: str) -> None:
        """An arm's first request, which is not counted, is sent."""

    def began(self, arm: str, concurrency: int) -> None:
        """A burst begins."""

    def answered(self, sample: Sample) -> None:
        """One of its requests was answered."""

    def ended(self, burst: Burst) -> None:
        """The burst is complete."""


async def run_interleaved(arms: Sequence[Arm], schedule: Schedule, watcher: Watcher) -> list[Burst]:
    """Runs the whole schedule, after one request to each arm that warms it up.

    Raises:
        Exception: what a request raised. Nothing is measured past it.
    """
    for arm in arms:
        watcher.warming_up(arm.name)
        await arm.send(0)
    bursts = []
    for concurrency, arm in schedule.turns(arms):
        await asyncio.sleep(schedule.pause_s)
        watcher.began(arm.name, concurrency)
        wall_s, samples = await run_burst(
            arm.send, concurrency, schedule.num_requests_at(concurrency), watcher.answered
        )
        bursts.append(Burst(arm.name, concurrency, wall_s, samples))
        watcher.ended(bursts[-1])
    return bursts
