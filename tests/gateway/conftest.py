"""The gateway in front of a deployment, all in the test process, with real sockets between.

Both are started once a module, whose tests share an event loop.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest_asyncio

from forethought.client import GenerationClient
from forethought.rpc.security.tls import ServerTls
from gateway.app import make_app
from gateway.server import HttpServer, run_gateway
from gateway.upstream import Upstream
from tests.stack import LoadedModel, Stack, running_stack

if TYPE_CHECKING:
    from tests.certificates import Security

MAX_BODY_BYTES = 2**16
MODEL = "tiny"


@asynccontextmanager
async def running_gateway(
    *addresses: str, security: "Security | None" = None, api_key: str = ""
) -> AsyncIterator[str]:
    """A gateway on a free port, ready; its URL."""
    tls, server_tls = (security.client, security.server) if security else (None, None)
    async with (
        GenerationClient(addresses, tls=tls) as client,
        serving(Upstream(client, (MODEL, "alias"), api_key), server_tls) as address,
    ):
        yield f"{'http' if tls is None else 'https'}://{address}"


@asynccontextmanager
async def serving(
    upstream: Upstream, tls: ServerTls | None = None, drain_grace_s: float = 5
) -> AsyncIterator[str]:
    """A gateway before `upstream` on a free port, ready; where it listens."""
    await upstream.ask()
    app = make_app(upstream, MAX_BODY_BYTES)
    server = HttpServer(app, "127.0.0.1:0", drain_grace_s, tls)
    running = asyncio.create_task(run_gateway(upstream, server, app.metrics, ""))
    try:
        yield server.address
    finally:
        upstream.stopping.set()
        await running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tiny_target: LoadedModel) -> AsyncIterator[Stack]:
    async with running_stack(tiny_target, tiny_target.proposer()) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url(stack: Stack) -> AsyncIterator[str]:
    """Of the gateway."""
    async with running_gateway(stack.address) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        yield client
