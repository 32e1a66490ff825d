"""A server that dies, hangs, is full or forgets costs little time, and is found again."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from time import perf_counter

import numpy as np
import pytest

from forethought.errors import (
    InvalidArgumentError,
    LeaseLostError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from forethought.store.blocks.block_codec import BlockId
from forethought.store.blocks.block_store import BlockStore
from forethought.store.blocks.write_behind import WriteBehind, WriteBehindSettings
from forethought.store.server.breaker import BreakerSettings, BreakerState
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions.session_store import SessionStore
from tests.ports import free_port
from tests.store.blocks import FORMAT, a_chain, numbers_of
from tests.store.conftest import PATIENT_S
from tests.store.connections import IMPATIENT_S, impatient, until_back
from tests.store.servers import ValkeyServer
from tests.store.sessions import TENANT, a_head, some_rounds
from tests.waiting import until


async def test_a_server_that_was_started_again_is_used_without_an_error(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    await store.create(a_head(), "here#1")
    own_server.kill()
    own_server.start()
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(2))


async def test_without_a_server_calls_fail_at_once_until_it_is_back(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    head = a_head()
    lease = await store.create(head, "here#1")
    own_server.kill()
    began = perf_counter()
    for number in range(3):
        with pytest.raises(StoreUnavailableError) as refused:
            await store.append(lease, some_rounds(number))
    assert refused.value.metadata == {"cause": "ConnectionError"}
    assert own_connection.state is BreakerState.OPEN
    for _ in range(100):
        with pytest.raises(StoreUnavailableError):
            await store.load(TENANT, head.session_id)
    assert perf_counter() - began < PATIENT_S
    own_server.start()
    await until_back(own_connection)
    with pytest.raises(SessionNotFoundError):
        await store.append(lease, some_rounds(1))
    await store.restore(lease, head, some_rounds(3))
    assert list((await store.load(TENANT, head.session_id)).rounds) == some_rounds(3)


async def test_a_server_that_hangs_costs_each_call_its_time_limit_and_then_nothing(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    head = a_head()
    lease = await store.create(head, "here#1")
    # A pause in which even a busy machine makes another call.
    breaker = BreakerSettings(max_failures=3, first_pause_s=2, max_pause_s=2)
    hasty_connection = StoreConnection(
        ConnectionSettings(own_server.url, timeout_s=IMPATIENT_S, breaker=breaker)
    )
    hasty = SessionStore(hasty_connection)
    await until_back(hasty_connection)
    own_server.signal(signal.SIGSTOP)
    try:
        began = perf_counter()
        # More calls than connections: the others wait for one, and no longer than the rest.
        attempts = [hasty.append(lease, some_rounds(1)) for _ in range(20)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        waited_s = perf_counter() - began
        assert {type(result) for result in results} == {StoreUnavailableError}
        assert 0.9 * IMPATIENT_S < waited_s < 10 * IMPATIENT_S
        assert hasty_connection.state is BreakerState.OPEN
        with pytest.raises(StoreUnavailableError, match="left alone"):
            await hasty.append(lease, some_rounds(1))
    finally:
        own_server.signal(signal.SIGCONT)
    await until_back(hasty_connection)
    await hasty_connection.close()
    # Whatever of the lost calls was carried out after all, the same round is no error.
    await store.append(lease, some_rounds(2))
    assert list((await store.load(TENANT, head.session_id)).rounds) == some_rounds(2)


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of a server that takes connections, and never answers."""

    async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(read_all, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("path", ["", "/1"], ids=["a server", "a database"])
async def test_a_call_ends_at_whatever_step_it_is_given_up(path):
    async with silent_server() as port:
        settings = ConnectionSettings(f"redis://127.0.0.1:{port}{path}", PATIENT_S)
        for num_steps in range(40):
            connection = StoreConnection(settings)
            call = asyncio.create_task(connection.run(lambda client: client.ping()))
            for _ in range(num_steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call}, timeout=PATIENT_S / 2)
            assert call.cancelled(), f"goes on after {num_steps} steps"
            await connection.close()


async def test_the_shared_connection_to_a_server_that_hangs_is_given_up_and_tried_again():
    async with silent_server() as port:
        connection = StoreConnection(ConnectionSettings(f"redis://127.0.0.1:{port}"))
        pipeline = connection._pipeline
        pipeline.connect()
        await until(lambda: pipeline._connecting is None)
        pipeline._retry_at = 0.0
        pipeline.connect()
        assert pipeline._connecting is not None
        await connection.close()


async def test_a_server_that_was_never_there_is_unavailable():
    connection = StoreConnection(ConnectionSettings(f"redis://127.0.0.1:{free_port()}"))
    with pytest.raises(StoreUnavailableError) as refused:
        await SessionStore(connection).create(a_head(), "here#1")
    assert refused.value.code == "UNAVAILABLE"
    await connection.close()


async def test_a_full_server_refuses_writes_and_still_reads(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    head = a_head()
    lease = await store.create(head, "here#1")
    await store.append(lease, some_rounds(2))
    with own_server.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", 1)
        for _ in range(5):
            with pytest.raises(StoreUnavailableError) as refused:
                await store.append(lease, some_rounds(3))
            assert refused.value.metadata == {"cause": "OutOfMemoryError"}
        with pytest.raises(StoreUnavailableError):
            await store.restore(lease, head, some_rounds(3))
        assert own_connection.state is BreakerState.CLOSED
        record = await store.load(TENANT, head.session_id)
        assert list(record.rounds) == some_rounds(2)
        redis.config_set("maxmemory", 0)
    await store.append(lease, some_rounds(3))
    await store.delete(TENANT, head.session_id)


async def test_a_full_server_lets_sessions_be_deleted(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    lease = await store.create(a_head(), "here#1")
    with own_server.client() as redis:
        redis.config_set("maxmemory", 1)
        await store.delete(TENANT, lease.session_id)
        assert redis.exists(*redis.keys("*:session:*")) == 1
    with pytest.raises(LeaseLostError):
        await store.append(lease, ())


async def test_evicted_sessions_are_lost_as_a_whole(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    leases, rounds = [], some_rounds(10, position=1000)
    with own_server.client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 500_000)
        for _ in range(150):
            lease = await store.create(a_head(prompt=tuple(range(1000))), "here#1")
            with suppress(SessionNotFoundError):  # evicted already
                await store.append(lease, rounds)
            leases.append(lease)
        assert redis.info("stats")["evicted_keys"] > 0
    num_left = 0
    for lease in leases:
        try:
            record = await store.load(TENANT, lease.session_id)
        except SessionNotFoundError:
            continue
        num_left += 1
        assert list(record.rounds) == rounds
    assert 0 < num_left < 150
    listed = await store.list_page(TENANT, page_size=1000)
    assert len(listed.sessions) <= num_left


async def test_a_server_that_forgot_the_script_is_told_it_again(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    lease = await store.create(a_head(), "here#1")
    for number in range(3):
        with own_server.client() as redis:
            redis.script_flush()
        await store.append(lease, some_rounds(number))
    with own_server.client() as redis:
        assert redis.info("commandstats")["cmdstat_eval"]["calls"] == 4
    await store.append(lease, some_rounds(4))
    with own_server.client() as redis:
        assert redis.info("commandstats")["cmdstat_eval"]["calls"] == 4


async def test_answers_never_reach_another_call(own_connection: StoreConnection):
    """Calls are cancelled at every point of their way, while others go on."""

    async def echo(text: str) -> bool:
        return await own_connection.run(lambda client: client.echo(text)) == text.encode()

    for number in range(300):
        doomed = [asyncio.create_task(echo(f"doomed {number} {index}")) for index in range(4)]
        for _ in range(number % 30):
            await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        kept = await asyncio.gather(*(echo(f"kept {number} {index}") for index in range(4)))
        assert all(kept)
        await asyncio.gather(*doomed, return_exceptions=True)
    assert own_connection.state is BreakerState.CLOSED


async def test_the_user_of_an_acl_is_all_it_takes_and_its_password_is_not_shown(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    with own_server.client() as redis:
        redis.acl_setuser(
            "sessions",
            enabled=True,
            passwords=["+s3cret"],
            keys=["forethought:*"],
            categories=["-@all", "+@read", "+@write", "+@scripting", "+@connection"],
            commands=["+time", "+info"],
        )
    url = f"redis://sessions:{{}}@127.0.0.1:{own_server.port}/0"
    settings = ConnectionSettings(url.format("s3cret"), PATIENT_S)
    assert "s3cret" not in repr(settings)
    connection = StoreConnection(settings)
    store = SessionStore(connection)
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(2))
    await store.list_page(TENANT)
    await store.delete(TENANT, lease.session_id)
    await connection.close()
    wrong = StoreConnection(ConnectionSettings(url.format("an0ther"), PATIENT_S))
    with pytest.raises(StoreUnavailableError) as refused:
        await SessionStore(wrong).create(a_head(), "here#1")
    assert refused.value.metadata == {"cause": "AuthenticationError"}
    assert "an0ther" not in refused.value.message
    await wrong.close()


@pytest.mark.parametrize("url", ["", "localhost:6379", "http://localhost", "redis://host:port"])
def test_what_is_no_url_of_a_store_is_refused_at_once(url: str):
    with pytest.raises(InvalidArgumentError):
        StoreConnection(ConnectionSettings(url))


async def fetched(store: BlockStore, chain: list[BlockId]) -> int:
    num_fetched = 0
    async with aclosing(store.fetch(chain)) as blocks:
        async for numbers in blocks:
            np.testing.assert_array_equal(numbers, numbers_of(chain[num_fetched]))
            num_fetched += 1
    return num_fetched


async def test_blocks_do_without_the_server_and_with_it_again(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    chain = a_chain(40)
    store = BlockStore(own_connection, FORMAT)
    writer = WriteBehind(
        store, WriteBehindSettings(refused=BreakerSettings(1, first_pause_s=0.01, max_pause_s=0.05))
    )
    own_server.kill()
    for block_id in chain[:20]:
        writer.offer(block_id, numbers_of(block_id))
    await until(lambda: writer.counters.num_failed == 20)
    assert writer.num_queued_bytes == 0
    assert await store.count_prefix(chain) == await fetched(store, chain) == 0
    assert store.counters.num_failures > 0
    own_server.start()
    await until_back(own_connection)

    async def written() -> bool:
        for block_id in chain:
            writer.offer(block_id, numbers_of(block_id))
        return await store.count_prefix(chain) == 40

    await until(written)
    assert await fetched(store, chain) == 40
    own_server.kill()
    assert await fetched(store, chain) == 0
    own_server.start()
    await until_back(own_connection)
    await until(written)
    await writer.close()


async def test_a_server_that_hangs_holds_up_neither_offers_nor_the_end(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    chain = a_chain(2000)
    numbers = numbers_of(chain[0])
    store = BlockStore(own_connection, FORMAT)
    writer = WriteBehind(store)
    await own_connection.run(lambda client: client.ping())
    own_server.signal(signal.SIGSTOP)
    try:
        for block_id in chain:
            writer.offer(block_id, numbers)  # one that waited would do so for ever
        began = perf_counter()
        await writer.close(timeout_s=0.5)
        assert perf_counter() - began < PATIENT_S
        with impatient(own_connection):
            assert await store.count_prefix(chain) == await fetched(store, chain) == 0
        counters = writer.counters
        assert counters.num_failed + counters.num_dropped == counters.num_offered == 2000
    finally:
        own_server.signal(signal.SIGCONT)


async def test_blocks_leave_room_on_a_server_that_evicts_nothing(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    chain = a_chain(100)
    with own_server.client() as redis:
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 4_000_000)
        for number in range(36):
            redis.set(f"filling {number}", b"x" * 100_000)
    assert await num_written(own_connection, chain) == 0
    await SessionStore(own_connection).create(a_head(), "here#1")
    with own_server.client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
    assert await num_written(own_connection, chain) == 100


async def num_written(connection: StoreConnection, chain: list[BlockId]) -> int:
    """Offers blocks to a new writer. How many it wrote."""
    writer = WriteBehind(BlockStore(connection, FORMAT))
    for block_id in chain:
        writer.offer(block_id, numbers_of(block_id))
    await writer.close(timeout_s=20)
    return writer.counters.num_written


async def test_evicted_blocks_are_a_shorter_prefix(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    chain = a_chain(200)
    with own_server.client() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        redis.config_set("maxmemory", redis.info("memory")["used_memory"] + 1_000_000)
    store = BlockStore(own_connection, FORMAT)
    writer = WriteBehind(store)
    for block_id in chain:
        writer.offer(block_id, numbers_of(block_id))
    await writer.close(timeout_s=20)
    found = await store.count_prefix(chain)
    assert found < 200
    assert await fetched(store, chain) == found
