"""A deployment with a store that has answered some requests, scraped once for all tests."""

import asyncio
from pathlib import Path

import pytest

from forethought.errors import InvalidArgumentError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.observability.series import Process
from tests.observability.deployment import Scrape, deployed
from tests.stack import generate
from tests.store.conftest import shared_server
from tests.store.servers import ValkeyServer

__all__ = ["shared_server"]

PROMPT = (3, 4, 5)
NUM_TOKENS = 30
DRAFTED = GenerationRequest(
    PROMPT,
    GenerationParams(max_tokens=NUM_TOKENS, ignore_eos=True, num_speculative_tokens=3, seed=1),
    request_id="secret request",
    tenant="secret tenant",
    note="secret note",
)
PLAIN = GenerationRequest(
    PROMPT,
    GenerationParams(max_tokens=NUM_TOKENS, ignore_eos=True, num_speculative_tokens=0, seed=1),
)


@pytest.fixture(scope="session")
def scrapes(
    tiny_target_folder: Path, tiny_draft_folder: Path, shared_server: ValkeyServer
) -> dict[Process, Scrape]:
    """What each process says after two answers, one of them with drafts, and a refusal."""

    async def run() -> dict[Process, Scrape]:
        async with deployed(
            tiny_target_folder, tiny_draft_folder, shared_server.url, policy="fixed"
        ) as deployment:
            answering = asyncio.gather(
                generate(deployment.client, DRAFTED), generate(deployment.client, PLAIN)
            )
            while not answering.done():  # a scrape disturbs nobody, and is disturbed by nobody
                for each in deployment.admin_addresses:
                    assert (await deployment.scrape(each)).text.startswith("# HELP")
            await answering
            with pytest.raises(InvalidArgumentError):
                await generate(deployment.client, GenerationRequest((99,)))
            return {each: await deployment.scrape(each) for each in deployment.admin_addresses}

    return asyncio.run(run())
