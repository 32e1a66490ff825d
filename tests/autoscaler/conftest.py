"""A cluster, and clients of its API server."""

from collections.abc import AsyncIterator
from typing import Any

import kmock as server
import pytest
from kubernetes.aio import client

from tests.autoscaler.cluster import Cluster


@pytest.fixture
def kmock_options() -> dict[str, Any]:
    """Errors like Kubernetes', and no state but that of `Cluster`."""
    return {"cls": server.KubernetesScaffold}


@pytest.fixture
def cluster(kmock: server.RawHandler) -> Cluster:
    return Cluster(kmock)


@pytest.fixture
async def api_client(cluster: Cluster) -> AsyncIterator[client.ApiClient]:
    async with client.ApiClient(client.Configuration(host=cluster.url)) as api_client:
        yield api_client
