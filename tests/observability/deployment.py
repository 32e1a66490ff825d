"""The three processes as they are served, inside the test process, and what they say of themselves
when they are scraped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from draft_service.__main__ import serve as serve_draft
from draft_service.settings import DraftSettings
from forethought.addresses import split_address
from forethought.client import GenerationClient
from forethought.observability.series import Process
from orchestrator.__main__ import serve as serve_orchestrator
from orchestrator.settings import OrchestratorSettings
from target_service.__main__ import serve as serve_target
from target_service.settings import TargetSettings
from tests.ports import free_port
from tests.waiting import until


@dataclass(frozen=True)
class Scrape:
    """What one process said."""

    text: str

    @property
    def names(self) -> frozenset[str]:
        """Of all samples."""
        families = text_string_to_metric_families(self.text)
        return frozenset(sample.name for family in families for sample in family.samples)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of a name that have these labels."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@dataclass(frozen=True)
class Deployment:
    """One process of each kind."""

    client: GenerationClient
    admin_addresses: dict[Process, str]

    async def scrape(self, process: Process) -> Scrape:
        """What a process says now."""
        text = await asyncio.to_thread(get, self.admin_addresses[process], "/metrics")
        return Scrape(text[1])


def get(address: str, path: str) -> tuple[int, str]:
    """Status and text of an admin port's answer."""
    connection = HTTPConnection(*split_address(address), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode().strip()
    finally:
        connection.close()


@asynccontextmanager
async def deployed(
    target: Path, draft: Path, store_url: str | None = None, **orchestrator: Any
) -> AsyncIterator[Deployment]:
    """All three, serving.

    Args:
        target: folder of the model.
        draft: likewise.
        store_url: of the store of sessions.
        orchestrator: more of its settings.
    """
    ports = [free_port() for _ in range(6)]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    common = {"dtype": "float32", "num_threads": 1, "kv_memory": "1MiB"}
    serving = [
        serve_target(
            TargetSettings(
                listen=addresses[0], admin_listen=addresses[3], model=str(target), **common
            )
        ),
        serve_draft(
            DraftSettings(
                listen=addresses[1], admin_listen=addresses[4], model=str(draft), **common
            )
        ),
        serve_orchestrator(
            OrchestratorSettings(
                listen=addresses[2],
                admin_listen=addresses[5],
                target=(addresses[0],),
                draft=(addresses[1],),
                model=str(target),
                redis_url=store_url,
                drain_grace_s=0,
                **orchestrator,
            )
        ),
    ]
    tasks = [asyncio.create_task(each) for each in serving]
    admin_addresses = dict(
        zip((Process.TARGET, Process.DRAFT, Process.ORCHESTRATOR), addresses[3:], strict=True)
    )
    try:

        async def are_ready() -> bool:
            assert not any(task.done() for task in tasks), [t for t in tasks if t.done()]
            answers = [
                await asyncio.to_thread(_is_ready, each) for each in admin_addresses.values()
            ]
            return all(answers)

        await until(are_ready, 60)
        async with GenerationClient(addresses[2]) as client:
            yield Deployment(client, admin_addresses)
    finally:
        for task in tasks[::-1]:
            task.cancel()
            await asyncio.wait((task,))


def _is_ready(address: str) -> bool:
    try:
        return get(address, "/readyz")[0] == 200
    except ConnectionError:
        return False
