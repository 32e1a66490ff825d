"""One server for all tests of a run, empty for each."""

import ssl
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from redis import Redis

from forethought.store.server.breaker import BreakerSettings
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions.session_store import SessionStore
from tests.store.proxy import proxied
from tests.store.servers import ValkeyServer

BREAKER = BreakerSettings(max_failures=3, first_pause_s=0.05, max_pause_s=0.2)
PATIENT_S = 10.0
"""Longer than a busy machine takes for a call."""


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
async def own_connection(own_server: ValkeyServer) -> AsyncGenerator[StoreConnection]:
    limits = {"timeout_s": PATIENT_S}
    connection = StoreConnection(ConnectionSettings(own_server.url, breaker=BREAKER, **limits))
    yield connection
    await connection.close()


@pytest.fixture
async def connection(shared_server: ValkeyServer, redis: Redis) -> AsyncGenerator[StoreConnection]:
    # Patient, since the machine may be busy: these tests are not about time.
    connection = StoreConnection(ConnectionSettings(shared_server.url, timeout_s=10))
    yield connection
    await connection.close()


@pytest.fixture
def store(connection: StoreConnection) -> SessionStore:
    return SessionStore(connection)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key


@pytest.fixture
async def tls_port(
    shared_server: ValkeyServer, redis, certificate: tuple[Path, Path]
) -> AsyncGenerator[int]:
    """Where TLS ends, and what is inside goes on to the server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    async with proxied(shared_server.port, tls=context) as port:
        yield port
