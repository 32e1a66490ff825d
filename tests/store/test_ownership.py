"""A session has one owner at a time, whatever the others believe."""

import asyncio
import random
from contextlib import suppress
from hashlib import sha1

import pytest
from redis import Redis

from forethought.errors import (
    LeaseLostError,
    RoundMismatchError,
    SessionInUseError,
)
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions import session_script
from forethought.store.sessions.records import CommittedRound, new_owner
from forethought.store.sessions.session_store import SessionStore, SessionStoreSettings
from tests.store.servers import ValkeyServer
from tests.store.sessions import TENANT, a_head, some_rounds
from tests.waiting import until


async def test_a_living_owner_keeps_its_session_unless_one_insists(store: SessionStore):
    head = a_head()
    first = await store.create(head, "first#1")
    with pytest.raises(SessionInUseError) as refused:
        await store.acquire(TENANT, head.session_id, "second#1")
    assert 0 < int(refused.value.metadata["lease_left_ms"]) <= 10_000
    await store.append(first, some_rounds(1))
    second, record = await store.acquire(TENANT, head.session_id, "second#1", take_over=True)
    assert second.fence == first.fence + 1
    assert list(record.rounds) == some_rounds(1)
    assert record.summary.owner == "second#1"


async def test_who_lost_its_session_can_write_nothing(store: SessionStore):
    head = a_head()
    first = await store.create(head, "first#1")
    second, _ = await store.acquire(TENANT, head.session_id, "second#1", take_over=True)
    await store.append(second, some_rounds(1))
    for attempt in (
        store.append(first, ()),
        store.append(first, some_rounds(1)),
        store.append(first, some_rounds(2, first=1)),
        store.finish(first),
        store.release(first),
        store.begin_turn(first, head),
        store.restore(first, head, ()),
        store.create(head, "first#1"),
    ):
        with pytest.raises(LeaseLostError):
            await attempt
    record = await store.load(TENANT, head.session_id)
    assert list(record.rounds) == some_rounds(1)
    assert record.summary.owner == "second#1"


async def test_asking_again_is_no_new_owner(store: SessionStore):
    head = a_head()
    leases = [await store.create(head, "first#1") for _ in range(2)]
    leases += [(await store.acquire(TENANT, head.session_id, "first#1"))[0] for _ in range(2)]
    assert {lease.fence for lease in leases} == {1}


@pytest.mark.parametrize("end", ["finish", "release"])
async def test_a_session_that_was_let_go_is_free_at_once(store: SessionStore, end: str):
    head = a_head()
    lease = await store.create(head, "first#1")
    for _ in range(2):
        await getattr(store, end)(lease, rounds=some_rounds(2))
    new, record = await store.acquire(TENANT, head.session_id, "second#1")
    assert new.fence == 2
    assert list(record.rounds) == some_rounds(2)


async def test_a_lease_ends_by_the_time_of_the_server(connection: StoreConnection, redis: Redis):
    store = SessionStore(connection, SessionStoreSettings(lease_s=0.2))
    head = a_head()
    first = await store.create(head, "first#1")

    async def taken() -> bool:
        try:
            await store.acquire(TENANT, head.session_id, "second#1")
        except SessionInUseError:
            return False
        return True

    (key,) = redis.scan_iter("*:session:*")
    end_ms = int(redis.hget(key, "s").split()[2])
    await until(taken)
    seconds, microseconds = redis.time()
    assert seconds * 1000 + microseconds / 1000 > end_ms
    with pytest.raises(LeaseLostError):
        await store.append(first, some_rounds(1))


async def test_rounds_renew_the_lease(connection: StoreConnection):
    brief = SessionStore(connection, SessionStoreSettings(lease_s=0.001))
    long = SessionStore(connection, SessionStoreSettings(lease_s=100))
    head = a_head()
    lease = await brief.create(head, "first#1")
    await long.append(lease, ())
    with pytest.raises(SessionInUseError) as refused:
        await long.acquire(TENANT, head.session_id, "second#1")
    assert int(refused.value.metadata["lease_left_ms"]) > 90_000


async def test_of_two_at_once_one_becomes_owner(store: SessionStore):
    head = a_head()
    lease = await store.create(head, "first#1")
    await store.release(lease)
    attempts = [store.acquire(TENANT, head.session_id, new_owner("x")) for _ in range(10)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(not isinstance(each, SessionInUseError) for each in results) == 1


async def race(server: ValkeyServer, seed: int) -> None:
    """Owners take a session from each other, each going on from what it was given."""
    chance = random.Random(seed)
    settings = ConnectionSettings(server.url, timeout_s=10)
    connections = [StoreConnection(settings) for _ in range(3)]
    head = a_head()
    await SessionStore(connections[0]).create(head, "creator#1")
    accepted: list[CommittedRound] = []

    async def own(number: int) -> None:
        store, rounds = SessionStore(connections[number]), []
        while len(rounds) < 40:
            lease, record = await store.acquire(
                TENANT, head.session_id, new_owner(str(number)), take_over=True
            )
            rounds, position = list(record.rounds), record.summary.num_tokens
            with suppress(LeaseLostError):
                for _ in range(chance.randint(1, 6)):
                    token_ids = (number,) * chance.randint(1, 3)
                    committed = CommittedRound(len(rounds), position, token_ids, b"%d" % number)
                    await store.append(lease, (committed,))
                    accepted.append(committed)
                    rounds.append(committed)
                    position += len(token_ids)
                    for _ in range(chance.randint(0, 3)):
                        await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as owners:
            for number in range(3):
                owners.create_task(own(number))
        record = await SessionStore(connections[0]).load(TENANT, head.session_id)
    finally:
        for connection in connections:
            await connection.close()
    assert sorted(accepted, key=lambda each: each.round) == list(record.rounds)
    assert len({each.payload for each in record.rounds}) > 1


@pytest.mark.parametrize("seed", range(20))
async def test_owners_that_race_never_mix_their_rounds(shared_server, redis, seed: int):
    await race(shared_server, seed)


async def test_the_race_notices_a_store_that_does_not_look_at_the_fence(
    shared_server, redis, monkeypatch
):
    broken = session_script._SCRIPT.replace("state.fence > fence", "false").replace(
        "state.owner ~= owner then\n    return 'LOST'", "false then"
    )
    monkeypatch.setattr(session_script, "_SCRIPT", broken)
    monkeypatch.setattr(session_script, "_SCRIPT_SHA", sha1(broken.encode()).hexdigest())

    async def races() -> None:
        for seed in range(20):
            await race(shared_server, seed)

    with pytest.raises(BaseExceptionGroup) as noticed:
        await races()
    assert noticed.group_contains(RoundMismatchError)


async def test_a_server_that_went_back_in_time_gives_no_one_the_fence_of_another(
    store: SessionStore, redis: Redis
):
    head = a_head()
    await store.create(head, "first#1")
    (key,) = redis.scan_iter("*:session:*")
    snapshot = redis.dump(key)
    second, _ = await store.acquire(TENANT, head.session_id, "second#1", take_over=True)
    redis.restore(key, 60_000, snapshot, replace=True)
    third, _ = await store.acquire(TENANT, head.session_id, "third#1", take_over=True)
    assert second.fence == third.fence
    with pytest.raises(LeaseLostError):
        await store.append(second, some_rounds(1))
    await store.append(third, some_rounds(1))


async def test_a_server_that_went_back_in_time_says_what_it_lacks(
    store: SessionStore, redis: Redis
):
    lease = await store.create(a_head(), "first#1")
    rounds = some_rounds(5)
    await store.append(lease, rounds[:2])
    (key,) = redis.scan_iter("*:session:*")
    snapshot = redis.dump(key)
    await store.append(lease, rounds[2:4])
    redis.restore(key, 60_000, snapshot, replace=True)
    with pytest.raises(RoundMismatchError) as refused:
        await store.append(lease, rounds[4:])
    await store.append(lease, rounds[int(refused.value.metadata["round"]) :])
    assert list((await store.load(TENANT, lease.session_id)).rounds) == rounds
