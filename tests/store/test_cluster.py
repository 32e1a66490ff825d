"""A cluster keeps what one server keeps, wherever its slots go."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress

import pytest
from redis.crc import key_slot
from redis.exceptions import MovedError

from forethought.errors import SessionNotFoundError, StoreUnavailableError
from forethought.store.blocks.block_store import BlockStore
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions.records import CommittedRound
from forethought.store.sessions.session_store import SessionStore
from forethought.store.start_check import blocks_are_kept, require_store, sessions_are_kept
from tests.store.blocks import FORMAT, a_chain
from tests.store.clusters import ValkeyCluster
from tests.store.conftest import BREAKER
from tests.store.sessions import a_head, some_rounds
from tests.store.test_block_store import fetched, write
from tests.waiting import until

TENANTS = [f"tenant {number}" for number in range(12)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[ValkeyCluster]:
    cluster = ValkeyCluster(tmp_path_factory.mktemp("cluster"))
    cluster.start()
    yield cluster
    cluster.kill()


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[StoreConnection]:
    connection = StoreConnection(ConnectionSettings(url, timeout_s=10, breaker=BREAKER))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def connection(cluster: ValkeyCluster) -> AsyncGenerator[StoreConnection]:
    async with connected(cluster.url) as connection:
        yield connection


def slot_of(store: SessionStore, tenant: str) -> int:
    key, index = store._keys(tenant, "x" * 22)
    assert key_slot(key.encode()) == key_slot(index.encode())
    return key_slot(key.encode())


async def lives(store: SessionStore, tenant: str) -> None:
    """A session of the tenant goes through all that can happen to one."""
    head = a_head(tenant=tenant)
    lease = await store.create(head, "here#1")
    tail = await store.append(lease, some_rounds(1))
    for number in range(1, 4):
        tail = await store.append(lease, some_rounds(number + 1, first=number), tail)
    assert [each.session_id for each in (await store.list_page(tenant)).sessions] == [
        head.session_id
    ]
    await store.finish(lease)
    lease, record = await store.acquire(tenant, head.session_id, "there#1")
    assert list(record.rounds) == some_rounds(4)
    await store.begin_turn(lease, head)
    await store.delete(tenant, head.session_id)
    with pytest.raises(SessionNotFoundError):
        await store.load(tenant, head.session_id)


async def test_a_cluster_passes_the_check_at_the_start(cluster: ValkeyCluster):
    for server in cluster.primaries:
        for check in (sessions_are_kept, blocks_are_kept(writable=True)):
            for _ in range(4):  # each with keys of its own
                await require_store(server.url, check)


async def test_sessions_of_all_tenants_live(cluster: ValkeyCluster, connection: StoreConnection):
    store = SessionStore(connection)
    assert len({cluster.owner_of(slot_of(store, tenant)) for tenant in TENANTS}) == 3
    for tenant in TENANTS:
        await lives(store, tenant)


async def test_blocks_of_a_chain_lie_on_all_servers(
    cluster: ValkeyCluster, connection: StoreConnection
):
    chain = a_chain(40)
    writer = await write(BlockStore(connection, FORMAT), chain)
    assert writer.counters.num_written == 40
    store = BlockStore(connection, FORMAT)
    slots = [key_slot(store.key(block_id).encode()) for block_id in chain]
    assert len({cluster.owner_of(slot) for slot in slots}) == 3
    assert await store.count_prefix(chain) == 40
    assert await fetched(store, chain) == 40
    assert store.counters.num_failures == 0


async def test_a_session_goes_on_when_its_slot_has_moved(
    cluster: ValkeyCluster, connection: StoreConnection
):
    store = SessionStore(connection)
    tenant = next(each for each in TENANTS if slot_of(store, each) % 2)
    head = a_head(tenant=tenant)
    lease = await store.create(head, "here#1")
    tail = await store.append(lease, some_rounds(1))
    source, _ = cluster.move(slot_of(store, tenant), until_done=False)
    # Its keys are elsewhere by now, and the source answers ASK.
    with suppress(StoreUnavailableError):
        tail = await store.append(lease, some_rounds(2, first=1), tail)
    cluster.move(slot_of(store, tenant))
    with source.client() as client, pytest.raises(MovedError):
        client.hgetall(store._keys(tenant, head.session_id)[0])
    await store.append(lease, some_rounds(3, first=1), tail)
    record = await store.load(tenant, head.session_id)
    assert list(record.rounds) == some_rounds(3)
    await lives(store, "another")


async def test_a_session_goes_on_when_its_server_is_lost_and_a_replica_takes_over(tmp_path):
    cluster = ValkeyCluster(tmp_path, num_replicas=1)
    cluster.start()
    async with connected(cluster.url) as connection:
        store = SessionStore(connection)
        tenant = next(
            f"tenant {number}"
            for number in range(100)
            if cluster.owner_of(slot_of(store, f"tenant {number}")) is cluster.servers[0]
        )
        head = a_head(tenant=tenant)
        lease = await store.create(head, "here#1")
        tail = await store.append(lease, some_rounds(1))
        with cluster.servers[0].client() as client:
            client.wait(1, 10_000)
        cluster.servers[0].kill()

        async def is_there() -> bool:
            try:
                await store.append(lease, some_rounds(2, first=1), tail)
            except StoreUnavailableError:
                return False
            return True

        await until(is_there)
        assert list((await store.load(tenant, head.session_id)).rounds) == some_rounds(2)
    for server in cluster.servers[1:]:
        server.kill()


async def test_many_sessions_at_a_time_share_a_few_connections(connection: StoreConnection):
    store = SessionStore(connection)
    leases = [
        await store.create(a_head(tenant=TENANTS[number % 12]), f"here#{number}")
        for number in range(60)
    ]
    await asyncio.gather(
        *(store.append(lease, [CommittedRound(0, 3, (1,), b"")]) for lease in leases)
    )
