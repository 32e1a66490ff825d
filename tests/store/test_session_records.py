"""What is stored of a session is found again, whole or not at all."""

import asyncio
from dataclasses import replace

import pytest
from redis import Redis

from forethought.errors import (
    InvalidArgumentError,
    LeaseLostError,
    RoundMismatchError,
    SessionNotFoundError,
)
from forethought.store.sessions.records import (
    SessionStatus,
    is_session_id,
    new_owner,
    new_session_id,
)
from forethought.store.sessions.session_store import SessionStore, SessionStoreSettings
from tests.store.sessions import TENANT, a_head, some_rounds
from tests.waiting import until


async def test_a_session_is_loaded_as_it_was_written(store: SessionStore):
    head, rounds = a_head(), some_rounds(5)
    lease = await store.create(head, "here#1")
    await store.append(lease, rounds[:1])
    await store.append(lease, rounds[1:4])
    record = await store.load(TENANT, head.session_id)
    assert record.head == head
    assert list(record.rounds) == rounds[:4]
    assert record.output_token_ids == (1000, 1001, 1002, 1002, 1003, 1004, 1003)
    assert record.summary.status is SessionStatus.ACTIVE
    assert (record.summary.owner, record.summary.fence) == ("here#1", 1)
    assert record.summary.num_tokens == 3 + 7
    await store.finish(lease, rounds=rounds[4:])
    finished = await store.load(TENANT, head.session_id)
    assert finished.summary.status is SessionStatus.FINISHED
    assert list(finished.rounds) == rounds
    assert finished.summary.created_ms == record.summary.created_ms
    assert finished.summary.updated_ms >= record.summary.updated_ms


async def test_a_session_is_one_key_that_goes_by_itself(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(3))
    records = list(redis.scan_iter("*:session:*"))
    assert len(records) == 1
    assert 3590_000 < redis.pttl(records[0]) <= 3600_000
    assert all(redis.pttl(key) > 0 for key in redis.scan_iter("*"))


async def test_the_time_to_live_begins_anew_with_each_round(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    (key,) = redis.scan_iter("*:session:*")
    redis.pexpire(key, 60_000)
    await store.append(lease, some_rounds(1))
    assert redis.pttl(key) > 3590_000


async def test_a_round_does_not_write_what_was_written_before(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(prompt=tuple(range(3000))), "here#1")
    rounds = some_rounds(200, position=3000)
    await store.append(lease, rounds[:100])
    await store.append(lease, rounds[100:101])  # connects, and makes the script known
    before = redis.info("stats")["total_net_input_bytes"]
    await store.append(lease, rounds[101:102])
    assert redis.info("stats")["total_net_input_bytes"] - before < 700


async def test_a_repeated_round_is_no_error_and_changes_nothing(store: SessionStore):
    lease = await store.create(a_head(), "here#1")
    rounds = some_rounds(4)
    await store.append(lease, rounds[:2])
    await store.append(lease, rounds[:2])
    await store.append(lease, rounds[1:3])
    await store.append(lease, rounds)
    assert list((await store.load(TENANT, lease.session_id)).rounds) == rounds


async def test_a_round_that_was_long_on_its_way_does_not_wake_a_finished_session(
    store: SessionStore,
):
    lease = await store.create(a_head(), "here#1")
    await store.finish(lease, rounds=some_rounds(2))
    await store.append(lease, some_rounds(2, first=1))
    await store.append(lease, ())
    with pytest.raises(RoundMismatchError):
        await store.append(lease, some_rounds(3))
    record = await store.load(TENANT, lease.session_id)
    assert record.summary.status is SessionStatus.FINISHED
    assert list(record.rounds) == some_rounds(2)
    await store.acquire(TENANT, lease.session_id, "there#1")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rounds: rounds[3:],
        lambda rounds: [rounds[2], rounds[4]],
        lambda rounds: [replace(rounds[2], position=rounds[2].position + 1)],
        lambda rounds: [replace(rounds[1], token_ids=(7, 7))],
        lambda rounds: [replace(rounds[1], payload=b"another")],
        lambda rounds: [rounds[2], replace(rounds[3], position=0)],
    ],
)
async def test_rounds_that_do_not_follow_are_refused_as_a_whole(store: SessionStore, spoil):
    lease = await store.create(a_head(), "here#1")
    rounds = some_rounds(5)
    await store.append(lease, rounds[:2])
    with pytest.raises(RoundMismatchError) as refused:
        await store.append(lease, spoil(rounds))
    assert refused.value.metadata == {"round": "2", "position": "6"}
    assert list((await store.load(TENANT, lease.session_id)).rounds) == rounds[:2]


@pytest.mark.parametrize(
    "session_id",
    ["", "short", "x" * 65, "../../etc/passwd/aaaaaaaa", "a b" * 10, "*" * 22, "unknown" * 4],
)
async def test_what_is_no_session_is_not_found(store: SessionStore, session_id: str):
    for attempt in (
        store.load(TENANT, session_id),
        store.acquire(TENANT, session_id, "here#1", take_over=True),
        store.delete(TENANT, session_id),
    ):
        with pytest.raises(SessionNotFoundError):
            await attempt


async def test_a_foreign_tenant_learns_and_changes_nothing(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    await store.append(lease, some_rounds(2))
    (key,) = redis.scan_iter("*:session:*")
    before = redis.hgetall(key)
    foreign, unknown = lease.session_id, new_session_id()
    messages = set()
    for session_id in (foreign, unknown):
        for attempt in (
            store.load("another", session_id),
            store.acquire("another", session_id, "there#1", take_over=True),
            store.delete("another", session_id),
            store.append(replace(lease, tenant="another", session_id=session_id), some_rounds(3)),
        ):
            with pytest.raises(SessionNotFoundError) as refused:
                await attempt
            messages.add((refused.value.message, *refused.value.metadata))
    assert len(messages) == 1
    assert redis.hgetall(key) == before
    assert (await store.list_page("another")).sessions == ()


def test_session_ids_are_of_128_random_bits():
    ids = {new_session_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(is_session_id(each) and len(each) == 22 for each in ids)


async def test_a_deleted_session_is_gone_and_its_owner_cannot_bring_it_back(store: SessionStore):
    head = a_head()
    lease = await store.create(head, "here#1")
    await store.append(lease, some_rounds(1))
    await store.delete(TENANT, head.session_id)
    assert (await store.list_page(TENANT)).sessions == ()
    for attempt in (
        store.load(TENANT, head.session_id),
        store.acquire(TENANT, head.session_id, "there#1"),
        store.delete(TENANT, head.session_id),
    ):
        with pytest.raises(SessionNotFoundError):
            await attempt
    for attempt in (
        store.append(lease, some_rounds(2)),
        store.restore(lease, head, some_rounds(2)),
        store.create(head, "here#1"),
    ):
        with pytest.raises(LeaseLostError):
            await attempt


async def test_what_a_deleted_session_leaves_goes_too(connection, redis: Redis):
    store = SessionStore(connection, SessionStoreSettings(deleted_ttl_s=0.05))
    head = a_head()
    await store.create(head, "here#1")
    await store.delete(TENANT, head.session_id)
    await until(lambda: not redis.keys("*"))


async def test_a_next_turn_keeps_the_session_and_begins_new_rounds(store: SessionStore):
    head = a_head()
    lease = await store.create(head, "here#1")
    await store.finish(lease, rounds=some_rounds(3))
    lease, record = await store.acquire(TENANT, head.session_id, "there#1")
    prompt = (*head.prompt_token_ids, *record.output_token_ids, 50, 51)
    following = replace(head, prompt_token_ids=prompt, request=b"the next")
    for _ in range(2):
        await store.begin_turn(lease, following)
    turn = await store.load(TENANT, head.session_id)
    assert turn.head == following
    assert turn.rounds == ()
    assert turn.summary.status is SessionStatus.ACTIVE
    assert turn.summary.created_ms == record.summary.created_ms
    await store.append(lease, some_rounds(2, position=len(prompt)))
    await store.begin_turn(lease, following)
    assert len((await store.load(TENANT, head.session_id)).rounds) == 2


async def test_a_lost_session_is_stored_again_under_its_lease(store: SessionStore, redis: Redis):
    head, rounds = a_head(), some_rounds(3000)
    await store.create(head, "here#1")
    lease, _ = await store.acquire(TENANT, head.session_id, "there#1", take_over=True)
    redis.flushall()
    with pytest.raises(SessionNotFoundError):
        await store.append(lease, rounds)
    for _ in range(2):
        await store.restore(lease, head, rounds)
    record = await store.load(TENANT, head.session_id)
    assert (record.head, list(record.rounds)) == (head, rounds)
    assert record.summary.fence == lease.fence == 2
    assert [each.session_id for each in (await store.list_page(TENANT)).sessions] == [
        head.session_id
    ]


async def test_an_owner_of_old_that_stores_it_again_gives_way_to_the_newest(
    store: SessionStore, redis: Redis
):
    head, rounds = a_head(), some_rounds(4)
    old = await store.create(head, "old#1")
    new, _ = await store.acquire(TENANT, head.session_id, "new#1", take_over=True)
    redis.flushall()
    await store.restore(old, head, rounds[:2])
    with pytest.raises(SessionNotFoundError):
        await store.append(new, rounds[3:])
    await store.restore(new, head, rounds)
    with pytest.raises(LeaseLostError):
        await store.append(old, rounds[2:3])
    with pytest.raises(LeaseLostError):
        await store.restore(old, head, rounds[:2])
    assert list((await store.load(TENANT, head.session_id)).rounds) == rounds


async def test_every_session_is_listed_once_newest_first(store: SessionStore):
    created = []
    for _ in range(25):
        lease = await store.create(a_head(), "here#1")
        created.append(lease.session_id)
    await asyncio.gather(*(store.create(a_head(tenant="another"), "here#1") for _ in range(5)))
    listed, sizes, page_token = [], [], None
    while True:
        page = await store.list_page(TENANT, page_size=10, page_token=page_token)
        listed += page.sessions
        sizes.append(len(page.sessions))
        page_token = page.next_page_token
        if page_token is None:
            break
        # Being used does not move a session in the list.
        lease, _ = await store.acquire(TENANT, created[0], new_owner("here"), take_over=True)
    assert sizes == [10, 10, 5]
    assert sorted(each.session_id for each in listed) == sorted(created)
    times = [each.created_ms for each in listed]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("page_token", ["", "x", "12", "12 short", "-1 " + "a" * 22])
async def test_a_page_token_that_was_not_given_is_refused(store: SessionStore, page_token: str):
    with pytest.raises(InvalidArgumentError):
        await store.list_page(TENANT, page_token=page_token)


@pytest.mark.parametrize("page_size", [0, -1, 1001])
async def test_a_page_size_out_of_range_is_refused(store: SessionStore, page_size: int):
    with pytest.raises(InvalidArgumentError):
        await store.list_page(TENANT, page_size=page_size)


async def test_sessions_that_are_gone_are_not_listed_and_leave_the_index(
    store: SessionStore, redis: Redis
):
    leases = [await store.create(a_head(), "here#1") for _ in range(10)]
    for lease in leases[::2]:
        (key,) = redis.scan_iter(f"*:session:{lease.session_id}")
        redis.delete(key)
    (index,) = redis.scan_iter("*:sessions")
    listed = (await store.list_page(TENANT)).sessions
    assert {each.session_id for each in listed} == {each.session_id for each in leases[1::2]}
    assert redis.zcard(index) == 5


async def test_an_index_that_nobody_lists_does_not_fill_with_what_is_gone(
    store: SessionStore, redis: Redis
):
    for _ in range(300):
        lease = await store.create(a_head(), "here#1")
        redis.delete(*redis.scan_iter(f"*:session:{lease.session_id}"))
    (index,) = redis.scan_iter("*:sessions")
    assert redis.zcard(index) < 30


async def test_a_lost_index_comes_back_with_the_next_rounds(store: SessionStore, redis: Redis):
    lease = await store.create(a_head(), "here#1")
    redis.delete(*redis.scan_iter("*:sessions"))
    assert (await store.list_page(TENANT)).sessions == ()
    await store.append(lease, some_rounds(1))
    assert [each.session_id for each in (await store.list_page(TENANT)).sessions] == [
        lease.session_id
    ]


async def test_an_owner_without_a_proper_name_is_refused(store: SessionStore):
    for owner in ("", "two words", "x" * 161, "näme"):
        with pytest.raises(InvalidArgumentError):
            await store.create(a_head(), owner)
