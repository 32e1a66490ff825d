"""One soak of one deployment: a quiet stretch, a long one with hostile clients, and a quiet end."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forethought.client import GenerationClient
from tests.chaos.deployment import ChaosDeployment, Size, started
from tests.chaos.streams import Findings, Readers, read, requests
from tests.soak.hostile import HostileClients, failures_of
from tests.soak.watch import Memory, ShortRequests
from tests.waiting import until

MIB = 2**20
MAX_REQUESTS = 32
WORDS = {
    "orchestrator": ["--max-requests", str(MAX_REQUESTS), "--unread-timeout-s", "2"],
    # So small that all of it is in use within the warm-up.
    "target_service": ["--session-idle-timeout-s", "2", "--kv-memory", "8MiB"],
    "draft_service": ["--session-idle-timeout-s", "2", "--kv-memory", "8MiB"],
}
SIZE = Size(num_targets=1, num_drafts=1, num_orchestrators=1)
ORCHESTRATOR = "orchestrator"


@dataclass(frozen=True)
class SoakOptions:
    """How long, and what is asked of the deployment."""

    duration_s: float = 600.0
    quiet_s: float = 30.0
    """First, with short requests and readers alone."""
    warm_up_s: float = 60.0
    """After which memory does not grow."""
    seed: int = 1
    num_readers: int = 2
    pause_s: float = 0.0
    """Of each reader before each answer."""
    max_growth_bytes: int = 24 * MIB
    max_above_idle_bytes: int = 300 * MIB
    """Of the orchestrator, at any time."""
    max_slowdown: float | None = 3.0
    """Of short requests, at the 99th percentile; None does not ask."""
    max_refused_share: float = 0.01
    """Of the requests of clients who mean no harm."""


@dataclass(frozen=True)
class SoakReport:
    """What came of it."""

    options: SoakOptions
    answers: dict[str, int]
    num_streams: int
    num_short: int
    num_refused: int
    quiet_p99_s: float
    p99_s: float
    growth: dict[str, int]
    above_idle: dict[str, int]
    failures: list[str]

    def __str__(self) -> str:
        lines = [
            f"seed {self.options.seed}, {self.options.duration_s:g} s",
            f"answers to hostile clients: {sum(self.answers.values())}",
            *(f"  {name} {count}" for name, count in sorted(self.answers.items())),
            f"streams read to their end: {self.num_streams}, short requests: {self.num_short}",
            f"of both told to come again: {self.num_refused}",
            f"99 % of them within {self.p99_s:.3f} s, {self.quiet_p99_s:.3f} s when quiet",
            *(
                f"memory of {name}: {most / MIB:.0f} MiB above idle at most, and after the warm-up "
                f"{self.growth[name] / MIB:+.1f} MiB"
                for name, most in self.above_idle.items()
            ),
            f"failures: {len(self.failures)}",
            *(f"  {failure}" for failure in self.failures),
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class Measured:
    """What was seen of a deployment."""

    memory: Memory
    idle: dict[str, int]
    """Memory before any client came."""
    quiet: ShortRequests
    short: ShortRequests
    found: Findings
    answers: Counter[str]
    missing_places: list[str]


async def run_soak(model: Path, logs: Path, options: SoakOptions) -> SoakReport:
    """Runs it.

    Raises:
        AssertionError: a tier holds a session or a token of one in the end.
    """
    async with started(ChaosDeployment(model, logs, SIZE, WORDS)) as deployment:
        await deployment.until_serving()
        [orchestrator], [target] = deployment.orchestrators, deployment.targets
        async with GenerationClient([orchestrator.address]) as client:
            asked = requests(60)
            expected = {
                name: await read(client, request, Findings()) for name, request in asked.items()
            }
            memory = Memory({name: tier[0] for name, tier in deployment.tiers.items()})
            idle = memory.now()
            quiet, short = ShortRequests(client), ShortRequests(client)
            readers = Readers([client], asked, expected, options.pause_s, come_again=True)
            hostile = HostileClients(orchestrator.address, target.address)
            reading = readers.start(options.num_readers, options.seed)
            try:
                async with in_background(quiet.ask_on()):
                    await asyncio.sleep(options.quiet_s)
                async with in_background(memory.watch(), short.ask_on()):
                    answers = await hostile.attack(options.seed, options.duration_s)
                readers.stop()
                await asyncio.gather(*reading)
            finally:
                for task in reading:
                    task.cancel()
            await deployment.until_nothing_is_held()
            held = await places_that_are_missing(client)
    measured = Measured(memory, idle, quiet, short, readers.findings, answers, held)
    return judged(options, measured)


async def places_that_are_missing(client: GenerationClient) -> list[str]:
    """What says that a request still holds a place which has ended."""
    asked = [ShortRequests(client) for _ in range(MAX_REQUESTS * 3 // 4)]
    async with in_background(*(each.ask_on() for each in asked)):
        await until(lambda: all(each.durations_s or each.failures for each in asked), 60)
    failures = [failure for each in asked for failure in each.failures]
    failures += ["a short request was refused" for each in asked if each.num_refused]
    return [f"in the end: {failure}" for failure in failures]


def judged(options: SoakOptions, seen: Measured) -> SoakReport:
    """All that was measured, and what of it should not be."""
    growth = seen.memory.growth(options.warm_up_s)
    above_idle = seen.memory.most_above(seen.idle)
    failures = [*seen.found.failures, *seen.short.failures, *failures_of(seen.answers)]
    failures += seen.missing_places
    for name, num_bytes in growth.items():
        if num_bytes > options.max_growth_bytes:
            failures.append(f"the memory of {name} grew by {num_bytes / MIB:.0f} MiB")
    if above_idle[ORCHESTRATOR] > options.max_above_idle_bytes:
        failures.append(f"{ORCHESTRATOR} took {above_idle[ORCHESTRATOR] / MIB:.0f} MiB")
    num_asked = seen.found.num_streams + len(seen.short.durations_s)
    num_refused = seen.found.num_refused + seen.short.num_refused
    if num_refused > options.max_refused_share * num_asked:
        failures.append(f"{num_refused} of {num_asked} requests were told to come again")
    slowdown = seen.short.p99_s / seen.quiet.p99_s
    if options.max_slowdown is not None and slowdown > options.max_slowdown:
        failures.append(f"short requests took {slowdown:.1f} times as long as when quiet")
    return SoakReport(
        options,
        answers=dict(seen.answers),
        num_streams=seen.found.num_streams,
        num_short=len(seen.short.durations_s),
        num_refused=num_refused,
        quiet_p99_s=seen.quiet.p99_s,
        p99_s=seen.short.p99_s,
        growth=growth,
        above_idle=above_idle,
        failures=failures,
    )


@asynccontextmanager
async def in_background(*work: Any) -> AsyncGenerator[None]:
    """Coroutines that run until the block is left; an error of theirs is raised there."""
    async with AsyncExitStack() as cleanup:
        for each in work:
            task = asyncio.create_task(each)
            cleanup.push_async_callback(asyncio.wait, (task,))
            cleanup.callback(task.cancel)
        yield
