"""A store for all tests of a run, empty for each, and deployments that use it."""

from collections.abc import AsyncGenerator

import pytest
from redis import Redis

from tests.sessions.deployments import Deployment, deployed
from tests.stack import LoadedModel
from tests.store.conftest import own_server, redis, shared_server
from tests.store.servers import ValkeyServer

__all__ = ["own_server", "redis", "shared_server"]


@pytest.fixture
async def deployment(
    tiny_target: LoadedModel, tiny_draft: LoadedModel, shared_server: ValkeyServer, redis: Redis
) -> AsyncGenerator[Deployment]:
    """Two orchestrators with one store."""
    async with deployed(tiny_target, tiny_draft, shared_server.url) as deployment:
        yield deployment


@pytest.fixture
async def right_deployment(
    tiny_target: LoadedModel, shared_server: ValkeyServer, redis: Redis
) -> AsyncGenerator[Deployment]:
    """The same with a draft that is always right: each round brings K + 1 tokens."""
    async with deployed(tiny_target, tiny_target, shared_server.url) as deployment:
        yield deployment
