"""What is measured while clients come and go: short requests, and the memory of processes."""

import asyncio
import itertools
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import psutil

from forethought.client import GenerationClient
from forethought.errors import ForethoughtError, OverloadedError
from forethought.generation import Finished, GenerationEvent, GenerationParams, GenerationRequest
from tests.lifecycle.processes import TierProcess

SHORT = GenerationRequest(
    "abc " * 100, GenerationParams(max_tokens=4, ignore_eos=True), tenant="short"
)
MEMORY_INTERVAL_S = 0.5


@dataclass
class ShortRequests:
    """A client that asks for a little, again and again. Where there is no room for it, it asks once
    more when it is told to, and that is part of how long it took."""

    client: GenerationClient
    pause_s: float = 0.1
    durations_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    num_refused: int = 0

    async def ask_on(self) -> None:
        """Until it is cancelled."""
        for _ in itertools.count():
            began_at = time.perf_counter()
            try:
                events = await self._ask()
            except ForethoughtError as error:
                self.failures.append(f"short request: {type(error).__name__}: {error}")
            else:
                self.durations_s.append(time.perf_counter() - began_at)
                if not isinstance(events[-1], Finished):
                    self.failures.append("short request: ended before its answer did")
            await asyncio.sleep(self.pause_s)

    async def _ask(self) -> list[GenerationEvent]:
        try:
            return [event async for event in self.client.generate(SHORT, timeout_s=60)]
        except OverloadedError as error:
            self.num_refused += 1
            await asyncio.sleep(error.retry_after_s)
        return [event async for event in self.client.generate(SHORT, timeout_s=60)]

    @property
    def p99_s(self) -> float:
        """The 99th percentile of how long they took."""
        ordered = sorted(self.durations_s)
        return ordered[min(int(0.99 * len(ordered)), len(ordered) - 1)]


@dataclass
class Memory:
    """Resident memory of processes that is no file, by name and over time."""

    processes: Mapping[str, TierProcess]
    samples: list[dict[str, int]] = field(default_factory=list)

    async def watch(self) -> None:
        """Until it is cancelled."""
        for _ in itertools.count():
            self.samples.append(
                {name: _resident(process) for name, process in self.processes.items()}
            )
            await asyncio.sleep(MEMORY_INTERVAL_S)

    def growth(self, warm_up_s: float) -> dict[str, int]:
        """Bytes by which the last quarter's median is above that of the first after the warm-up."""
        rest = self.samples[round(warm_up_s / MEMORY_INTERVAL_S) :]
        quarter = max(len(rest) // 4, 1)
        return {
            name: _median([each[name] for each in rest[-quarter:]])
            - _median([each[name] for each in rest[:quarter]])
            for name in self.processes
        }

    def most_above(self, idle: Mapping[str, int]) -> dict[str, int]:
        """Bytes by which each was above its idle memory at the most."""
        return {
            name: max(each[name] for each in self.samples) - idle[name] for name in self.processes
        }

    def now(self) -> dict[str, int]:
        """What each has now."""
        return {name: _resident(process) for name, process in self.processes.items()}


def _resident(process: TierProcess) -> int:
    parent = psutil.Process(process.process.pid)
    num_bytes = _own(parent)
    for child in parent.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            num_bytes += _own(child)
    return num_bytes


def _own(process: psutil.Process) -> int:
    """Without pages of files, which come and go as the machine has room for them."""
    memory = process.memory_info()
    return int(memory.rss - memory.shared)


def _median(values: list[int]) -> int:
    return sorted(values)[len(values) // 2]
