"""Whatever lies under our keys, it costs what was there, and nobody else anything."""

import json
from dataclasses import replace
from hashlib import sha1

import pytest
from redis import Redis
from structlog.testing import capture_logs

from forethought.errors import SessionCorruptError, SessionNotFoundError
from forethought.store.blocks.block_store import BlockStore
from forethought.store.server.connection import StoreConnection
from forethought.store.sessions.records import Lease
from forethought.store.sessions.sealed import seal, unseal
from forethought.store.sessions.session_store import SessionStore
from tests.store.blocks import FORMAT, a_chain
from tests.store.junk import JUNK, replace_by
from tests.store.sessions import TENANT, a_head, some_rounds
from tests.store.test_block_store import fetched, write

each_junk = pytest.mark.parametrize("name", JUNK)


def key_of(redis: Redis, lease: Lease) -> bytes:
    (key,) = redis.scan_iter(f"*:session:{lease.session_id}")
    return key


def index_of(redis: Redis, lease: Lease) -> bytes:
    return key_of(redis, lease).rpartition(b":session:")[0] + b":sessions"


async def listed(store: SessionStore) -> set[str]:
    return {each.session_id for each in (await store.list_page(TENANT)).sessions}


@each_junk
async def test_a_broken_record_is_corrupt_for_its_session_and_left_out_of_the_list(
    store: SessionStore, redis: Redis, name: str
):
    broken = await store.create(a_head(), "here#1")
    other = await store.create(a_head(), "here#2")
    replace_by(redis, key_of(redis, broken), name)
    for attempt in (
        store.load(TENANT, broken.session_id),
        store.acquire(TENANT, broken.session_id, "there#1", take_over=True),
        store.append(broken, some_rounds(1)),
        store.finish(broken),
        store.begin_turn(broken, a_head(broken.session_id)),
    ):
        with pytest.raises(SessionCorruptError):
            await attempt
    with capture_logs() as logs:
        assert await listed(store) == {other.session_id}
    (line,) = (line for line in logs if line["event"] == "session_not_listed")
    assert line["session_id"] == broken.session_id
    assert await store.append(other, some_rounds(2))


@each_junk
async def test_a_broken_record_can_be_deleted(store: SessionStore, redis: Redis, name: str):
    lease = await store.create(a_head(), "here#1")
    replace_by(redis, key_of(redis, lease), name)
    await store.delete(TENANT, lease.session_id)
    with pytest.raises(SessionNotFoundError):
        await store.load(TENANT, lease.session_id)
    assert await listed(store) == set()


@each_junk
async def test_an_owner_writes_its_session_anew_in_place_of_a_broken_record(
    store: SessionStore, redis: Redis, name: str
):
    head = a_head()
    lease = await store.create(head, "here#1")
    replace_by(redis, key_of(redis, lease), name)
    await store.restore(lease, head, some_rounds(3))
    assert list((await store.load(TENANT, lease.session_id)).rounds) == some_rounds(3)


@pytest.mark.parametrize("name", [each for each in JUNK if each != "a sorted set"])
async def test_an_index_that_is_none_gives_way_to_one(store: SessionStore, redis: Redis, name: str):
    before = await store.create(a_head(), "here#1")
    tail = await store.append(before, some_rounds(1))
    index = index_of(redis, before)
    replace_by(redis, index, name)
    assert await listed(store) == set()
    replace_by(redis, index, name)
    await store.append(before, some_rounds(2, first=1), tail)
    assert await listed(store) == {before.session_id}
    for operation in (
        lambda: store.create(a_head(), "here#2"),
        lambda: store.acquire(TENANT, before.session_id, "there#1", take_over=True),
        lambda: store.load(TENANT, before.session_id),
        lambda: store.delete(TENANT, before.session_id),
    ):
        replace_by(redis, index, name)
        await operation()


async def test_entries_of_an_index_that_are_no_sessions_are_cleaned_out(
    store: SessionStore, redis: Redis
):
    leases = [await store.create(a_head(), f"here#{number}") for number in range(3)]
    index = index_of(redis, leases[0])
    junk = {b"\xff\xfe": 5, b"": 1e300, b"x" * 2**20: float("inf"), "a b": float("-inf")}
    # Good names at no time that ever was.
    junk |= {"y" * 22: 1.5, "z" * 22: -3, "w" * 22: float("inf"), "v" * 65: 10**12}
    junk |= {b"%d" % number: 10**15 + number for number in range(5000)}
    redis.zadd(index, junk)
    with capture_logs() as logs:
        page = await store.list_page(TENANT, page_size=2)
        found = [each.session_id for each in page.sessions]
        while page.next_page_token:
            page = await store.list_page(TENANT, page_size=2, page_token=page.next_page_token)
            found += [each.session_id for each in page.sessions]
    assert set(found) == {lease.session_id for lease in leases}
    assert len(found) == 3
    assert sum(line["num_junk"] for line in logs) >= 5000
    assert await listed(store) == set(found)


async def test_a_record_with_more_fields_than_its_own_is_corrupt(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(2))
    redis.hset(key_of(redis, lease), "r2", b"x" * 2**20)
    for attempt in (
        store.load(TENANT, lease.session_id),
        store.acquire(TENANT, lease.session_id, "there#1", take_over=True),
    ):
        with pytest.raises(SessionCorruptError):
            await attempt


@pytest.mark.parametrize(
    "body",
    [
        "1 here#1 0 active 0 3 3 1",
        "1 here#1 0 asleep 0 3 3 1 1",
        "one here#1 0 active 0 3 3 1 1",
        "1 here#1 0 active 0 3 3 1 1 1",
        "1 here#1 0 active 1e3 3 3 1 1",
        "1 here#1 0 active -1 3 3 1 1",
        "1 here#1 0 active 0 99999999999 3 1 1",
        "1 here#1 0 active 0 3 3 " + "9" * 30 + " 1",
        "1 here#1 0 active " + "0" * 5000 + " 3 3 1 1",
    ],
)
async def test_a_state_of_another_version_is_corrupt(store: SessionStore, redis: Redis, body: str):
    lease = await store.create(a_head(), "here#1")
    checksum = sha1(f"{lease.session_id} {body}".encode()).hexdigest()
    redis.hset(key_of(redis, lease), "s", f"{body} {checksum}")
    for attempt in (
        store.load(TENANT, lease.session_id),
        store.acquire(TENANT, lease.session_id, "there#1", take_over=True),
    ):
        with pytest.raises(SessionCorruptError):
            await attempt
    assert await listed(store) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1.5},
        {"seed": -1},
        {"seed": None},
        {"temperature": "1"},
        {"temperature": float("nan")},
        {"top_a": 1},
        {"mode": "guess"},
        {"max_len": 9.5},
        {"tenant": 3},
    ],
    ids=str,
)
async def test_a_head_of_another_version_is_corrupt(store: SessionStore, redis: Redis, changes):
    lease = await store.create(a_head(), "here#1")
    key, place = key_of(redis, lease), (b"FTH\x01", lease.session_id.encode())
    first, *others = unseal(*place, 3, redis.hget(key, "h"))
    facts = json.loads(first)
    for name, value in changes.items():
        (facts if name in facts else facts["sampling"])[name] = value
    redis.hset(key, "h", seal(*place, (json.dumps(facts).encode(), *others)))
    with pytest.raises(SessionCorruptError):
        await store.load(TENANT, lease.session_id)


@each_junk
async def test_a_block_that_is_none_is_a_miss_and_makes_room(
    connection: StoreConnection, redis: Redis, name: str
):
    chain = a_chain(4)
    await write(BlockStore(connection, FORMAT), chain)
    store = BlockStore(connection, FORMAT)
    replace_by(redis, store.key(chain[1]), name)
    assert await fetched(store, chain) == 1
    assert store.counters.num_failures == 0
    assert store.counters.num_bytes < 10 * FORMAT.num_bytes
    await write(BlockStore(connection, FORMAT), chain)
    assert await fetched(store, chain) == 4


async def test_blocks_of_several_lengths_in_a_chain_are_fetched(connection: StoreConnection):
    chain = a_chain(3)
    chain[2] = replace(chain[2], token_ids=chain[2].token_ids[:5])
    await write(BlockStore(connection, FORMAT), chain)
    assert await fetched(BlockStore(connection, FORMAT), chain) == 3
