"""A store behind TLS, whose certificate is looked at."""

import asyncio
import shutil
from pathlib import Path

import pytest

from forethought.errors import StoreUnavailableError
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions.session_store import SessionStore
from tests.store.connections import until_open
from tests.store.sessions import TENANT, a_head

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates")


async def test_a_store_is_used_through_tls(tls_port: int, certificate: tuple[Path, Path]):
    connection = StoreConnection(
        ConnectionSettings(
            f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={certificate[0]}",
            timeout_s=10,
        )
    )
    store = SessionStore(connection)
    head = a_head()
    await store.create(head, "here#1")
    assert (await store.load(TENANT, head.session_id)).head == head
    await until_open(connection)
    big = "x" * 2**18
    answers = await asyncio.gather(*(connection.pipelined(("ECHO", big)) for _ in range(5)))
    assert answers == [big.encode()] * 5
    await connection.close()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int):
    connection = StoreConnection(
        ConnectionSettings(f"rediss://127.0.0.1:{tls_port}/0", timeout_s=10)
    )
    with pytest.raises(StoreUnavailableError):
        await SessionStore(connection).create(a_head(), "here#1")
    await connection.close()
