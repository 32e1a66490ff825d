"""A session that is restored from the store goes on as if it had been computed."""

import asyncio
from dataclasses import replace

import pytest

from forethought.engine.cache.block_pool import block_names
from forethought.engine.model.packed import BLOCK_LEN
from forethought.store.blocks.block_codec import BlockId
from forethought.store.blocks.block_store import BlockMode, BlockStoreSettings
from tests.kv.tiers import (
    FAST,
    a_prompt,
    archive_at,
    assert_right,
    format_of,
    running,
    say,
    with_blocks,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("patient")

PROMPT = a_prompt(5 * BLOCK_LEN + 3)


def ids_of(prompt, salt=b""):
    return [BlockId(name.key, name.token_ids) for name in block_names(prompt, salt)]


async def written(url, model, *prompts, salt=b""):
    """Leaves the blocks of prompts in the store."""
    async with running(model, archive_at(url, format_of(model))) as engine:
        return [await say(engine, prompt, 4, salt) for prompt in prompts]


async def test_logits_and_text_after_a_restart_are_those_that_are_computed(
    model, reference, shared_server, redis
):
    (first,) = await written(shared_server.url, model, PROMPT)
    assert first.num_restored == 0
    assert redis.dbsize() == 5
    archive = archive_at(shared_server.url, format_of(model))
    async with running(model, archive) as engine:
        again = await say(engine, PROMPT, 20)
        assert engine.restorer.counters.num_blocks == 5
        assert engine.restorer.counters.num_given_up == 0
    assert again.num_restored == 5 * BLOCK_LEN
    assert archive.store.counters.num_fetched == 5
    assert_right(again, PROMPT, reference)
    assert again.token_ids[:4] == first.token_ids


async def test_restored_numbers_are_bit_for_bit_those_that_were_computed(
    model, shared_server, redis
):
    kept = {}
    for turn in range(2):
        async with running(model, archive_at(shared_server.url, format_of(model))) as engine:
            said = await say(engine, PROMPT)
            assert said.num_restored == turn * 5 * BLOCK_LEN
            ids, keys = engine._pool.take_prefix(PROMPT, b"")
            for key, block_id in zip(keys, ids, strict=True):
                numbers = engine._model.read_block(block_id).tobytes()
                assert kept.setdefault(key, numbers) == numbers
            engine._pool.release(ids)
    assert len(kept) == 5


async def test_a_twin_that_takes_one_block_for_another_is_caught(
    lean, reference, shared_server, redis
):
    await written(shared_server.url, lean, PROMPT)
    archive = archive_at(shared_server.url, format_of(lean))
    fetch = archive.fetch

    async def mistaken(names):
        blocks = [numbers async for numbers in fetch(names)]
        for numbers in (blocks[1], *blocks[1:]):
            yield numbers

    archive.fetch = mistaken
    async with running(lean, archive) as engine:
        said = await say(engine, PROMPT)
    with pytest.raises(AssertionError):
        assert_right(said, PROMPT, reference)


@pytest.mark.parametrize("num_shared", [10, 16, 40, 64, 79])
async def test_as_many_blocks_are_restored_as_prompts_have_in_common(
    lean, reference, shared_server, redis, num_shared
):
    await written(shared_server.url, lean, PROMPT)
    other = [*PROMPT[:num_shared], (PROMPT[num_shared] + 1) % 16, *a_prompt(30, seed=1)]
    async with running(lean, archive_at(shared_server.url, format_of(lean))) as engine:
        said = await say(engine, other, 3)
    assert said.num_restored == num_shared // BLOCK_LEN * BLOCK_LEN
    assert_right(said, other, reference)


async def test_a_gap_ends_what_is_restored(lean, reference, shared_server, redis):
    await written(shared_server.url, lean, PROMPT)
    archive = archive_at(shared_server.url, format_of(lean))
    names = [*map(archive.store.key, ids_of(PROMPT))]
    redis.delete(names[2])
    async with running(lean, archive) as engine:
        said = await say(engine, PROMPT, 3)
    assert said.num_restored == 2 * BLOCK_LEN
    assert_right(said, PROMPT, reference)
    assert redis.exists(names[2])  # computed, and written again


async def test_what_is_in_the_pool_already_is_not_fetched(lean, reference, shared_server, redis):
    longer = [*PROMPT, *a_prompt(40, seed=2)]
    await written(shared_server.url, lean, longer)
    archive = archive_at(shared_server.url, format_of(lean))
    async with running(lean, archive) as engine:
        await say(engine, PROMPT)
        assert archive.store.counters.num_fetched == 5
        said = await say(engine, longer, 3)
        assert archive.store.counters.num_fetched == 7
    assert said.num_restored == 2 * BLOCK_LEN
    assert_right(said, longer, reference)


async def test_another_tenant_model_number_format_or_engine_is_a_miss(
    lean, unlean, reference, shared_server, redis
):
    await written(shared_server.url, lean, PROMPT, salt=b"me")
    own = format_of(lean)
    cases = [
        (lean, own, b"you"),
        (lean, replace(own, model="other weights"), b"me"),
        (unlean, format_of(unlean), b"me"),
    ]
    for model, block_format, salt in cases:
        archive = archive_at(
            shared_server.url, block_format, BlockStoreSettings(BlockMode.READ_ONLY)
        )
        async with running(model, archive) as engine:
            said = await say(engine, PROMPT, 2, salt)
            assert engine.restorer.counters.num_missed == 1
        assert said.num_restored == 0
        assert_right(said, PROMPT, reference)
    half = archive_at(shared_server.url, replace(own, dtype="bfloat16"))
    assert await half.store.count_prefix(ids_of(PROMPT, b"me")) == 0
    await half.close()


async def test_sessions_that_are_restored_and_others_mix_in_passes(
    model, reference, shared_server, redis
):
    stems = [a_prompt(90, seed) for seed in range(3)]
    await written(shared_server.url, model, *stems)
    prompts = [
        *(stem[:length] for stem in stems for length in (90, 50, 33)),
        *(a_prompt(length, seed=9) for length in (1, 40, 70)),
    ]
    async with running(model, archive_at(shared_server.url, format_of(model))) as engine:
        said = await asyncio.gather(*(say(engine, prompt, 12) for prompt in prompts))
    for each, prompt in zip(said, prompts, strict=True):
        assert_right(each, prompt, reference)
    assert sum(bool(each.num_restored) for each in said) >= 9


@pytest.mark.parametrize("num_blocks", [12, 15])
async def test_with_too_little_memory_all_is_right_too(
    lean, reference, shared_server, redis, num_blocks
):
    stems = [a_prompt(90, seed) for seed in range(4)]
    await written(shared_server.url, lean, *stems)
    archive = archive_at(shared_server.url, format_of(lean))
    async with running(lean, archive, limits=with_blocks(num_blocks)) as engine:
        said = await asyncio.gather(*(say(engine, prompt, 20) for prompt in stems))
    for each, prompt in zip(said, stems, strict=True):
        assert_right(each, prompt, reference)


async def test_a_restore_takes_no_block_from_a_running_session(
    lean, reference, shared_server, redis
):
    await written(shared_server.url, lean, PROMPT)
    running_prompt = a_prompt(70, seed=3)
    archive = archive_at(shared_server.url, format_of(lean))
    async with running(lean, archive, limits=with_blocks(8)) as engine:
        sequence = engine.open(running_prompt)
        await until(lambda: sequence.num_cached_tokens == 69)
        held = list(sequence.block_ids)
        other = engine.open(PROMPT)
        assert await engine.count_restored(other) == 5 * BLOCK_LEN
        await until(lambda: engine.restorer.counters.num_blocks == 3)  # of 8, 5 are in use
        await engine.restorer.wait(other)
        assert list(sequence.block_ids) == held
        engine.discard(sequence)
        engine.discard(other)
        assert_right(await say(engine, PROMPT, 3), PROMPT, reference)


async def test_what_is_faster_to_compute_is_not_fetched(lean, reference, shared_server, redis):
    await written(shared_server.url, lean, PROMPT)
    archive = archive_at(shared_server.url, format_of(lean))
    archive.store.rate.transferred(2**20, 0.1)
    async with running(lean, archive, FAST) as engine:
        said = await say(engine, PROMPT, 3)
    assert archive.store.counters.num_fetched == 0
    assert said.num_restored == 0
    assert_right(said, PROMPT, reference)


async def test_a_reader_leaves_the_store_as_it_is(lean, reference, shared_server, redis):
    reading = BlockStoreSettings(BlockMode.READ_ONLY)
    archive = archive_at(shared_server.url, format_of(lean), reading)
    async with running(lean, archive) as engine:
        assert_right(await say(engine, PROMPT, 3), PROMPT, reference)
    assert redis.dbsize() == 0
    assert archive.writer.counters.num_offered == 0  # nor is anything copied for it
