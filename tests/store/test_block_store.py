"""Blocks go to the store behind the engine's back, and come back as a prefix."""

import asyncio
import threading
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from redis import Redis

from forethought.errors import InvalidArgumentError
from forethought.store.blocks.block_codec import BlockFormat, BlockId, encode_block, encoded_len
from forethought.store.blocks.block_store import BlockMode, BlockStore, BlockStoreSettings
from forethought.store.blocks.write_behind import WriteBehind, WriteBehindSettings
from forethought.store.server.connection import StoreConnection
from tests.store.blocks import FORMAT, a_chain, numbers_of

BLOCK_BYTES = encoded_len(FORMAT, 16)


def a_store(
    connection: StoreConnection, block_format: BlockFormat = FORMAT, **settings
) -> BlockStore:
    return BlockStore(connection, block_format, BlockStoreSettings(**settings))


async def write(store: BlockStore, block_ids: list[BlockId]) -> WriteBehind:
    """Writes blocks, and returns when they are written."""
    writer = WriteBehind(store)
    for block_id in block_ids:
        writer.offer(block_id, numbers_of(block_id))
    await writer.close(timeout_s=20)
    return writer


async def fetched(store: BlockStore, block_ids: list[BlockId]) -> int:
    """Fetches blocks and compares them. How many came."""
    num_fetched = 0
    async with aclosing(store.fetch(block_ids)) as blocks:
        async for numbers in blocks:
            np.testing.assert_array_equal(numbers, numbers_of(block_ids[num_fetched]))
            num_fetched += 1
    return num_fetched


async def test_what_was_written_is_found_and_fetched(connection):
    chain = a_chain(20)
    writer = await write(a_store(connection), chain)
    assert writer.counters.num_written == 20
    assert writer.counters.num_bytes == 20 * BLOCK_BYTES
    store = a_store(connection)
    assert await store.count_prefix(chain) == 20
    assert await fetched(store, chain) == 20
    assert store.counters.num_found == store.counters.num_fetched == 20
    assert store.counters.num_bytes == 20 * BLOCK_BYTES
    assert await fetched(store, []) == await store.count_prefix([]) == 0


async def test_a_prefix_ends_at_the_first_block_that_is_missing(connection, redis: Redis):
    chain = a_chain(20)
    store = a_store(connection)
    await write(store, chain)
    redis.delete(store.key(chain[7]))
    assert await store.count_prefix(chain) == 7
    assert await fetched(store, chain) == 7
    assert await store.count_prefix(chain[8:]) == 12
    assert store.counters.num_missing == 1


async def test_a_long_chain_is_asked_for_in_parts(connection):
    chain = a_chain(2500)
    await write(a_store(connection, max_known_blocks=10), chain[:2300])
    assert await a_store(connection).count_prefix(chain) == 2300


async def test_a_value_that_is_not_what_it_should_be_ends_the_prefix_and_makes_room(
    connection, redis: Redis
):
    chain = a_chain(6)
    store = a_store(connection)
    await write(store, chain)
    value = bytearray(redis.get(store.key(chain[3])))
    value[-20] ^= 1
    redis.set(store.key(chain[3]), bytes(value))
    assert await fetched(store, chain) == 3
    assert store.counters.num_refused == 1
    assert not redis.exists(store.key(chain[3]))
    await write(store, chain)
    assert await fetched(store, chain) == 6


async def test_numbers_that_are_none_are_not_written_and_not_read(connection, redis: Redis):
    chain = a_chain(3)
    store = a_store(connection)
    nonsense = np.full_like(numbers_of(chain[1]), 0xFFFF)  # a broken replica's: not a number
    writer = WriteBehind(store)
    for block_id in chain:
        writer.offer(block_id, nonsense if block_id is chain[1] else numbers_of(block_id))
    await writer.close(timeout_s=20)
    assert (writer.counters.num_written, writer.counters.num_failed) == (2, 1)
    assert not redis.exists(store.key(chain[1]))
    redis.set(store.key(chain[1]), encode_block(FORMAT, chain[1], nonsense))
    assert await fetched(store, chain) == 1
    assert store.counters.num_refused == 1
    assert not redis.exists(store.key(chain[1]))


async def test_a_value_of_another_type_is_a_miss(connection, redis: Redis):
    chain = a_chain(2)
    store = a_store(connection)
    redis.hset(store.key(chain[0]), "a", "hash")
    assert await fetched(store, chain) == 0


async def test_formats_and_tenants_do_not_see_each_others_blocks(connection):
    chain = a_chain(3)
    await write(a_store(connection), chain)
    for other in (replace(FORMAT, model="other"), replace(FORMAT, dtype="float16")):
        assert await a_store(connection, other).count_prefix(chain) == 0
    assert await a_store(connection).count_prefix(a_chain(3, salt=b"other")) == 0


async def test_pieces_grow_with_the_measured_rate(connection):
    store = a_store(connection, max_piece_bytes=8 * BLOCK_BYTES, piece_s=0.1)
    assert store.piece_len(store.rate) == 1
    store.rate.transferred(30 * FORMAT.num_bytes, 1.0)
    assert store.piece_len(store.rate) == 3
    store.rate.transferred(1000 * FORMAT.num_bytes, 0.001)
    for _ in range(50):
        store.rate.transferred(1000 * FORMAT.num_bytes, 0.001)
    assert store.piece_len(store.rate) == 8


async def test_a_caller_may_stop_a_fetch(connection):
    chain = a_chain(200)
    store = a_store(connection, max_piece_bytes=4 * BLOCK_BYTES)
    await write(store, chain)
    async with aclosing(store.fetch(chain)) as blocks:
        async for _ in blocks:
            break
    assert store.counters.num_fetched == 1
    assert store.counters.num_bytes < 10 * BLOCK_BYTES
    assert await fetched(store, chain) == 200


async def test_rates_are_known_once_measured(connection):
    chain = a_chain(30)
    store = a_store(connection)
    assert store.rate.seconds_for(1000) is None
    writer = await write(store, chain)
    assert writer.rate.bytes_per_s > 0
    assert await store.count_prefix(chain) == 30
    assert store.rate.latency_s > 0
    assert store.rate.bytes_per_s is None
    await fetched(store, chain)
    assert store.rate.seconds_for(2 * 10**6) > store.rate.seconds_for(10**6) > 0


async def test_blocks_known_to_be_stored_are_not_wanted_again(connection):
    chain = a_chain(5)
    store = a_store(connection)
    await write(store, chain[:3])
    writer = WriteBehind(store)
    assert [writer.wants(block_id) for block_id in chain] == [False] * 3 + [True] * 2
    assert writer.offer(chain[3], numbers_of(chain[3]))
    assert not writer.wants(chain[3])
    assert not writer.offer(chain[0], numbers_of(chain[0]))
    await writer.close(timeout_s=20)
    assert writer.counters.num_unwanted == 1
    assert writer.counters.num_written == 1


async def test_what_another_process_has_written_is_not_sent_again(connection, redis: Redis):
    chain = a_chain(40)
    await write(a_store(connection), chain)
    before = redis.info("stats")["total_net_input_bytes"]
    writer = await write(a_store(connection), chain)
    assert writer.counters.num_present == 40
    assert writer.counters.num_written == 0
    assert redis.info("stats")["total_net_input_bytes"] - before < 10 * BLOCK_BYTES


async def test_what_the_store_has_lost_is_wanted_again(connection, redis: Redis):
    chain = a_chain(3)
    store = a_store(connection)
    await write(store, chain)
    redis.flushall()
    assert await store.count_prefix(chain) == 0
    writer = await write(store, chain)
    assert writer.counters.num_written == 3
    assert await fetched(store, chain) == 3


async def test_every_block_goes_by_itself_and_being_asked_for_keeps_it(connection, redis: Redis):
    chain = a_chain(3)
    store = a_store(connection, ttl_s=100)
    await write(store, chain)
    for block_id in chain:
        assert 0 < redis.pttl(store.key(block_id)) <= 100_000
        redis.pexpire(store.key(block_id), 5_000)
    await a_store(connection, ttl_s=100).count_prefix(chain[:2])
    left = [redis.pttl(store.key(block_id)) for block_id in chain]
    assert min(left[:2]) > 5_000 >= left[2]


async def test_read_only_changes_nothing(connection, redis: Redis):
    chain = a_chain(4)
    store = a_store(connection, mode=BlockMode.READ_ONLY)
    writer = await write(store, chain)
    assert not writer.wants(chain[0])
    assert redis.dbsize() == 0
    await write(a_store(connection), chain)
    redis.pexpire(store.key(chain[0]), 5_000)
    redis.set(store.key(chain[3]), b"rubbish", px=5_000)
    assert await store.count_prefix(chain) == 4
    assert await fetched(store, chain) == 3
    assert redis.pttl(store.key(chain[0])) <= 5_000
    assert redis.get(store.key(chain[3])) == b"rubbish"


async def test_switched_off_it_asks_nothing(connection, redis: Redis):
    chain = a_chain(2)
    await write(a_store(connection), chain)
    calls = redis.info("stats")["total_commands_processed"]
    store = a_store(connection, mode=BlockMode.OFF)
    writer = await write(store, chain)
    assert await store.count_prefix(chain) == await fetched(store, chain) == 0
    assert writer.counters.num_unwanted == 2
    assert redis.info("stats")["total_commands_processed"] == calls + 1


async def test_a_block_above_the_limit_is_neither_written_nor_read(connection, redis: Redis):
    chain = a_chain(2)
    await write(a_store(connection, max_value_bytes=BLOCK_BYTES), chain)
    assert redis.dbsize() == 2
    small = a_store(connection, max_value_bytes=BLOCK_BYTES - 1)
    assert await small.count_prefix(chain) == await fetched(small, chain) == 0
    redis.flushall()
    writer = await write(small, chain)
    assert redis.dbsize() == 0
    assert writer.counters.num_unwanted == 2


async def test_a_full_queue_drops_and_counts(connection):
    chain = a_chain(10)
    settings = WriteBehindSettings(max_queued_bytes=4 * FORMAT.num_bytes)
    writer = WriteBehind(a_store(connection), settings)
    # The task that writes has no turn in between.
    taken = [writer.offer(block_id, numbers_of(block_id)) for block_id in chain]
    assert taken == [True] * 4 + [False] * 6
    assert writer.num_queued_bytes == 4 * FORMAT.num_bytes
    await writer.close(timeout_s=20)
    assert writer.num_queued_bytes == 0
    counters = writer.counters
    assert (counters.num_offered, counters.num_written, counters.num_dropped) == (10, 4, 6)


async def test_another_thread_offers_while_the_loop_writes(connection):
    chain = a_chain(300)
    store = a_store(connection)
    writer = WriteBehind(store)

    def engine() -> None:
        for block_id in chain:
            writer.offer(block_id, numbers_of(block_id))

    thread = threading.Thread(target=engine)
    thread.start()
    await asyncio.to_thread(thread.join)
    await writer.close(timeout_s=20)
    assert writer.counters.num_written == 300
    assert await fetched(store, chain) == 300


async def test_after_its_end_nothing_is_taken(connection):
    (block_id,) = a_chain(1)
    writer = WriteBehind(a_store(connection))
    await writer.close()
    assert not writer.offer(block_id, numbers_of(block_id))
    assert writer.counters.num_dropped == 1


async def test_numbers_of_another_format_are_refused_at_once(connection):
    (block_id,) = a_chain(1)
    writer = WriteBehind(a_store(connection))
    with pytest.raises(InvalidArgumentError):
        writer.offer(block_id, numbers_of(block_id)[:1])
    await writer.close()


@pytest.mark.parametrize("seed", range(3))
async def test_what_is_fetched_is_right_whatever_happened_to_the_values(
    connection, redis: Redis, seed: int
):
    chance = np.random.default_rng(seed)
    chain = a_chain(30)
    store = a_store(connection)
    await write(store, chain)
    for _ in range(5):
        block_id = chain[chance.integers(5, 30)]
        other = chain[chance.integers(0, 30)]
        redis.set(store.key(block_id), encode_block(FORMAT, other, numbers_of(other)))
    assert 5 <= await fetched(store, chain) <= 30
