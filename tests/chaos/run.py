"""One storm over one deployment, from an undisturbed beginning to a quiet end."""

from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from forethought.client import GenerationClient
from tests.chaos.deployment import ChaosDeployment, Size, started
from tests.chaos.storm import Storm
from tests.chaos.streams import Findings, Readers, read, requests


@dataclass(frozen=True)
class ChaosOptions:
    """How long, how hard, and from which seed."""

    duration_s: float = 180.0
    seed: int = 1
    interval_s: float = 2.0
    """Between two faults."""
    num_readers: int = 8
    max_tokens: int = 600
    pause_s: float = 0.0
    """Of each client before each answer."""
    size: Size = field(default_factory=Size)


@dataclass(frozen=True)
class ChaosReport:
    """What was broken, and what came of it."""

    options: ChaosOptions
    faults: dict[str, int]
    findings: Findings

    def __str__(self) -> str:
        found = self.findings
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self.faults.items()))
        told = self.options
        lines = [
            f"seed {told.seed}, {told.duration_s:g} s, {told.num_readers} clients",
            f"faults injected: {sum(self.faults.values())} ({faults})",
            f"streams finished: {found.num_streams} ({found.num_tokens} tokens)",
            f"longest pause: {found.longest_pause_s:.2f} s",
            f"failures: {len(found.failures)}",
            *(f"  {failure}" for failure in found.failures),
        ]
        return "\n".join(lines)


async def run_chaos(model: Path, logs: Path, options: ChaosOptions) -> ChaosReport:
    """Runs it.

    Raises:
        AssertionError: a process does not come back, or holds something in the end.
    """
    async with started(ChaosDeployment(model, logs, options.size)) as deployment:
        await deployment.until_serving()
        async with AsyncExitStack() as cleanup:
            clients = [
                await cleanup.enter_async_context(GenerationClient(addresses))
                for addresses in _from_each(deployment.addresses(deployment.orchestrators))
            ]
            asked = requests(options.max_tokens)
            expected = {
                name: await read(clients[0], request, Findings()) for name, request in asked.items()
            }
            readers = Readers(clients, asked, expected, options.pause_s)
            reading = readers.start(options.num_readers, options.seed)
            storm = Storm(deployment, options.seed, options.interval_s)
            try:
                await storm.rage(options.duration_s)
                readers.stop()
                for task in reading:
                    await task
            finally:
                for task in reading:
                    task.cancel()
            await deployment.until_nothing_is_held()
    return ChaosReport(options, dict(storm.injected), readers.findings)


def _from_each(addresses: list[str]) -> list[list[str]]:
    """The addresses, beginning with each in turn: clients stay with the first that answers."""
    return [addresses[first:] + addresses[:first] for first in range(len(addresses))]
