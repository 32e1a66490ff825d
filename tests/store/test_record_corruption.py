"""A record that is not as it was written is refused, and never read as something else."""

import random

import pytest
from redis import Redis

from forethought.errors import SessionCorruptError, SessionNotFoundError
from forethought.store.sessions.record_codec import unpack_record
from forethought.store.sessions.session_store import SessionStore
from tests.store.mutation import mutated
from tests.store.sessions import TENANT, a_head, some_rounds


async def a_stored_session(store: SessionStore, redis: Redis) -> tuple[str, dict[bytes, bytes]]:
    """The key of a session, and its fields."""
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(4))
    (key,) = redis.scan_iter(f"*:session:{lease.session_id}")
    return key, redis.hgetall(key)


async def test_every_change_of_a_field_is_noticed(store: SessionStore, redis: Redis):
    key, fields = await a_stored_session(store, redis)
    session_id = key.decode().rpartition(":")[2]
    record = unpack_record(session_id, TENANT, fields)
    chance = random.Random(7)
    num_changed = 0
    while num_changed < 3000:
        name = chance.choice(list(fields))
        value = mutated(fields[name], chance)
        if value == fields[name]:
            continue
        num_changed += 1
        with pytest.raises((SessionCorruptError, SessionNotFoundError)):
            unpack_record(session_id, TENANT, fields | {name: value})
    assert record == unpack_record(session_id, TENANT, fields)


@pytest.mark.parametrize("name", [b"s", b"h", b"r0", b"r3"])
async def test_a_lost_field_is_noticed(store: SessionStore, redis: Redis, name: bytes):
    key, _ = await a_stored_session(store, redis)
    session_id = key.decode().rpartition(":")[2]
    redis.hdel(key, name)
    for attempt in (
        store.load(TENANT, session_id),
        store.acquire(TENANT, session_id, "there#1", take_over=True),
    ):
        with pytest.raises(SessionCorruptError):
            await attempt


async def test_fields_of_another_place_or_session_do_not_fit(store: SessionStore, redis: Redis):
    key, fields = await a_stored_session(store, redis)
    _, others = await a_stored_session(store, redis)
    session_id = key.decode().rpartition(":")[2]
    for changed in (
        {b"r1": fields[b"r2"]},
        {b"r1": fields[b"r2"], b"r2": fields[b"r1"]},
        *({name: others[name]} for name in others),
    ):
        with pytest.raises(SessionCorruptError):
            unpack_record(session_id, TENANT, fields | changed)


async def test_a_state_that_was_changed_lets_nobody_write(store: SessionStore, redis: Redis):
    head = a_head()
    lease = await store.create(head, "here#1")
    (key,) = redis.scan_iter("*:session:*")
    state = redis.hget(key, "s")
    redis.hset(key, "s", state.replace(b"1 here", b"3 here", 1))
    for attempt in (
        store.append(lease, some_rounds(1)),
        store.create(head, "here#1"),
        store.acquire(TENANT, head.session_id, "there#1"),
        store.load(TENANT, head.session_id),
    ):
        with pytest.raises(SessionCorruptError):
            await attempt
    assert (await store.list_page(TENANT)).sessions == ()
    await store.restore(lease, head, some_rounds(1))
    assert list((await store.load(TENANT, head.session_id)).rounds) == some_rounds(1)


async def test_a_record_that_cannot_be_read_can_be_deleted(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    (key,) = redis.scan_iter("*:session:*")
    redis.hset(key, "s", "rubbish")
    await store.delete(TENANT, lease.session_id)
    with pytest.raises(SessionNotFoundError):
        await store.load(TENANT, lease.session_id)


async def test_a_key_that_holds_something_else_is_no_session(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    (key,) = redis.scan_iter("*:session:*")
    redis.delete(key)
    redis.hset(key, "other", "field")
    with pytest.raises(SessionCorruptError):
        await store.append(lease, ())
