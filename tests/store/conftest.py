"""One server for all tests of a run, empty for each."""

from collections.abc import AsyncGenerator, Generator

import pytest
from redis import Redis

from forethought.store.connection import ConnectionSettings, StoreConnection
from forethought.store.session_store import SessionStore
from tests.store.servers import ValkeyServer


@pytest.fixture(scope="session")
def shared_server() -> Generator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(shared_server: ValkeyServer) -> Generator[Redis]:
    """A client to look and to meddle with, of a server that holds nothing."""
    with shared_server.client() as client:
        client.flushall()
        client.script_flush()
        yield client


@pytest.fixture
def own_server() -> Generator[ValkeyServer]:
    """A server for this test alone."""
    server = ValkeyServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def connection(shared_server: ValkeyServer, redis: Redis) -> AsyncGenerator[StoreConnection]:
    # Patient, since the machine may be busy: these tests are not about time.
    connection = StoreConnection(
        ConnectionSettings(shared_server.url, connect_timeout_s=10, timeout_s=10)
    )
    yield connection
    await connection.close()


@pytest.fixture
def store(connection: StoreConnection) -> SessionStore:
    return SessionStore(connection)
