"""The cheap append does what the other one does, or nothing; and is cheap again after trouble."""

import asyncio
import signal
from time import perf_counter

import hiredis
import pytest
from redis import Redis

from forethought.errors import (
    LeaseLostError,
    RoundMismatchError,
    SessionCorruptError,
    SessionNotFoundError,
    StoreUnavailableError,
)
from forethought.store.server.breaker import BreakerState
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions import appending
from forethought.store.sessions.appending import RecordLocation, Tail, append_after
from forethought.store.sessions.records import CommittedRound, Lease, SessionRecord
from forethought.store.sessions.session_store import SessionStore, SessionStoreSettings
from tests.store.connections import IMPATIENT_S, impatient, until_back, until_open
from tests.store.proxy import Network, proxied
from tests.store.servers import ValkeyServer
from tests.store.sessions import TENANT, a_head, some_rounds

ROUNDS = some_rounds(10)


async def cheaply(
    store: SessionStore, lease: Lease, tail: Tail | None, rounds: list[CommittedRound]
) -> Tail | None:
    """Only the cheap way."""
    location = RecordLocation(store._keys(lease.tenant, lease.session_id), store._times())
    return await append_after(store._connection, location, lease, tail, rounds)


async def begun(store: SessionStore) -> tuple[Lease, Tail]:
    """A session with two rounds."""
    await until_open(store._connection)
    lease = await store.create(a_head(), "here#1")
    tail = await store.append(lease, ROUNDS[:2])
    return lease, tail


def without_times(record: SessionRecord) -> tuple:
    summary = record.summary
    facts = (summary.status, summary.owner, summary.fence, summary.num_rounds, summary.num_tokens)
    return facts, summary.num_prompt_tokens, record.rounds


async def test_both_ways_write_the_same(store: SessionStore):
    records = []
    for way in (cheaply, lambda store, lease, _, rounds: store.append(lease, rounds)):
        lease, tail = await begun(store)
        for rounds in (ROUNDS[2:3], ROUNDS[3:6], ROUNDS[6:]):
            tail = await way(store, lease, tail, rounds)
            assert tail
        records.append(await store.load(TENANT, lease.session_id))
    assert without_times(records[0]) == without_times(records[1])
    assert list(records[0].rounds) == ROUNDS


async def test_a_cheap_append_renews_lease_and_time_to_live(store: SessionStore, redis: Redis):
    lease, tail = await begun(store)
    before = (await store.load(TENANT, lease.session_id)).summary
    for key in redis.scan_iter("*"):
        redis.pexpire(key, 60_000)
    redis.zrem(next(redis.scan_iter("*:sessions")), lease.session_id)
    long = SessionStore(store._connection, SessionStoreSettings(lease_s=100))
    await asyncio.sleep(0.002)
    assert await cheaply(long, lease, tail, ROUNDS[2:3])
    assert all(redis.pttl(key) > 3590_000 for key in redis.scan_iter("*"))
    after = (await store.load(TENANT, lease.session_id)).summary
    assert after.created_ms == before.created_ms
    assert after.updated_ms > before.updated_ms
    assert [each.session_id for each in (await store.list_page(TENANT)).sessions] == [
        lease.session_id
    ]
    state = redis.hget(next(redis.scan_iter("*:session:*")), "s").split()
    assert int(state[2]) == after.updated_ms + 100_000


async def test_after_an_append_the_next_one_is_cheap(store: SessionStore, redis: Redis):
    lease, tail = await begun(store)
    tail = await store.append(lease, ROUNDS[2:3], tail)  # makes the script known
    redis.config_resetstat()
    for number in range(3, 8):
        tail = await store.append(lease, ROUNDS[number : number + 1], tail)
    calls = {name: each["calls"] for name, each in redis.info("commandstats").items()}
    # Of those that the script makes.
    assert calls["cmdstat_evalsha"] == calls["cmdstat_hset"] == calls["cmdstat_hget"] == 5


async def taken_over(store: SessionStore, redis: Redis, lease: Lease) -> None:
    await store.acquire(TENANT, lease.session_id, "there#1", take_over=True)


async def taken_back(store: SessionStore, redis: Redis, lease: Lease) -> None:
    """The server returns to an older copy, and gives the same fencing number twice."""
    key = next(redis.scan_iter(f"*:session:{lease.session_id}"))
    copy = redis.dump(key)
    await store.acquire(TENANT, lease.session_id, "second#1", take_over=True)
    redis.restore(key, 0, copy, replace=True)
    await store.acquire(TENANT, lease.session_id, "third#1", take_over=True)


async def deleted(store: SessionStore, redis: Redis, lease: Lease) -> None:
    await store.delete(TENANT, lease.session_id)


async def flushed(store: SessionStore, redis: Redis, lease: Lease) -> None:
    redis.flushall()


async def spoilt(store: SessionStore, redis: Redis, lease: Lease) -> None:
    key = next(redis.scan_iter(f"*:session:{lease.session_id}"))
    redis.hset(key, "s", redis.hget(key, "s").replace(b" 2 ", b" 1 "))


async def ended(store: SessionStore, redis: Redis, lease: Lease) -> None:
    await store.finish(lease)


CHANGES = {
    taken_over: LeaseLostError,
    taken_back: LeaseLostError,
    deleted: LeaseLostError,
    flushed: SessionNotFoundError,
    spoilt: SessionCorruptError,
    ended: RoundMismatchError,
}


async def fields_after(change, store: SessionStore, redis: Redis) -> tuple[dict, dict]:
    """All fields of all records, before and after a cheap append that comes too late."""
    lease, tail = await begun(store)
    await change(store, redis, lease)
    before = {key: redis.hgetall(key) for key in redis.scan_iter("*:session:*")}
    assert await cheaply(store, lease, tail, ROUNDS[2:4]) is None
    return before, {key: redis.hgetall(key) for key in redis.scan_iter("*:session:*")}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_append_that_comes_too_late_writes_nothing_and_says_why(
    store: SessionStore, redis: Redis, change
):
    before, after = await fields_after(change, store, redis)
    assert before == after
    redis.flushall()
    lease, tail = await begun(store)
    await change(store, redis, lease)
    with pytest.raises(CHANGES[change]):
        await store.append(lease, ROUNDS[2:4], tail)


async def test_a_script_that_does_not_look_first_would_be_found_out(
    store: SessionStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
):
    blind = appending._SCRIPT.replace("~= ARGV[2]", "== 'no state'")
    assert blind != appending._SCRIPT
    monkeypatch.setattr(appending, "_SCRIPT", blind)
    monkeypatch.setattr(appending, "_SCRIPT_SHA", redis.script_load(blind))
    lease, tail = await begun(store)
    await taken_over(store, redis, lease)
    assert await cheaply(store, lease, tail, ROUNDS[2:4])
    assert (await store.load(TENANT, lease.session_id)).summary.owner == "here#1"


@pytest.mark.parametrize("rounds", [ROUNDS[3:4], ROUNDS[1:3], [ROUNDS[2], ROUNDS[4]]])
async def test_rounds_that_do_not_follow_take_the_other_way(
    store: SessionStore, rounds: list[CommittedRound]
):
    lease, tail = await begun(store)
    assert await cheaply(store, lease, tail, rounds) is None
    assert await cheaply(store, Lease(lease.session_id, TENANT, "else#1", 1), tail, rounds) is None
    if rounds[0].round == 1:
        # One of them is known, which is no error.
        assert await store.append(lease, rounds, tail)
    else:
        with pytest.raises(RoundMismatchError):
            await store.append(lease, rounds, tail)


async def test_a_server_that_was_started_again_is_told_at_once_and_used_again(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    lease, tail = await begun(store)
    own_server.kill()
    own_server.start()
    with pytest.raises(SessionNotFoundError):
        await store.append(lease, ROUNDS[2:3], tail)
    await store.restore(lease, a_head(lease.session_id), ROUNDS[:2])
    await until_open(own_connection)
    tail = await store.append(lease, ROUNDS[2:3])
    assert await cheaply(store, lease, tail, ROUNDS[3:])


async def test_a_server_that_hangs_costs_all_who_wait_one_time_limit(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    lease, tail = await begun(store)
    own_server.signal(signal.SIGSTOP)
    try:
        with impatient(own_connection):
            began = perf_counter()
            attempts = [store.append(lease, ROUNDS[2:3], tail) for _ in range(20)]
            results = await asyncio.gather(*attempts, return_exceptions=True)
            waited_s = perf_counter() - began
    finally:
        own_server.signal(signal.SIGCONT)
    assert {type(result) for result in results} == {StoreUnavailableError}
    # One after the other would wait for twenty.
    assert 0.9 * IMPATIENT_S < waited_s < 10 * IMPATIENT_S
    assert own_connection.state is BreakerState.OPEN
    await until_back(own_connection)
    await until_open(own_connection)
    tail = await store.append(lease, ROUNDS[2:4])
    assert await cheaply(store, lease, tail, ROUNDS[4:])
    assert list((await store.load(TENANT, lease.session_id)).rounds) == ROUNDS


async def test_a_full_server_refuses_and_breaks_nothing(
    own_server: ValkeyServer, own_connection: StoreConnection
):
    store = SessionStore(own_connection)
    lease, tail = await begun(store)
    with own_server.client() as redis:
        redis.config_set("maxmemory", 1)
        for _ in range(5):
            with pytest.raises(StoreUnavailableError) as refused:
                await store.append(lease, ROUNDS[2:3], tail)
            assert refused.value.metadata == {"cause": "OutOfMemoryError"}
        assert own_connection.state is BreakerState.CLOSED
        redis.config_set("maxmemory", 0)
    assert await cheaply(store, lease, tail, ROUNDS[2:])


async def test_answers_never_reach_another_cheap_call(connection: StoreConnection):
    """Calls are cancelled at every point of their way, while others go on."""
    await until_open(connection)

    async def echo(text: str) -> bool:
        return await connection.pipelined(("ECHO", text)) == text.encode()

    for number in range(300):
        doomed = [asyncio.create_task(echo(f"doomed {number} {index}")) for index in range(4)]
        for _ in range(number % 30):
            await asyncio.sleep(0)
        for task in doomed:
            task.cancel()
        assert all(await asyncio.gather(*(echo(f"kept {number} {index}") for index in range(4))))
        await asyncio.gather(*doomed, return_exceptions=True)


async def test_a_refusal_belongs_to_its_call(connection: StoreConnection):
    await until_open(connection)
    commands = [("ECHO", "a"), ("NO SUCH THING",), ("ECHO", "b")]
    answers = await asyncio.gather(*(connection.pipelined(command) for command in commands))
    assert answers[0] == b"a"
    assert isinstance(answers[1], hiredis.ReplyError)
    assert answers[2] == b"b"


async def test_calls_that_share_a_connection_do_not_wait_for_each_other(
    shared_server: ValkeyServer, redis: Redis
):
    async with proxied(shared_server.port, network=Network(latency_s=0.4)) as port:
        connection = StoreConnection(ConnectionSettings(f"redis://127.0.0.1:{port}", timeout_s=10))
        await until_open(connection)
        began = perf_counter()
        answers = await asyncio.gather(*(connection.pipelined(("ECHO", n)) for n in range(50)))
        took_s = perf_counter() - began
        assert answers == [b"%d" % n for n in range(50)]
        assert 0.4 <= took_s < 50 * 0.4 / 4
        await connection.close()
