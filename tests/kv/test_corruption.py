"""Values that are not exactly as they were written are misses: texts stay right."""

import asyncio
import random

import numpy as np
import pytest
import torch

from forethought.engine.model.packed import BLOCK_LEN
from forethought.store.blocks import block_store
from forethought.store.blocks.block_codec import _CHECKSUM_BYTES as CHECKSUM_BYTES
from forethought.store.blocks.block_codec import Numbers, decode_block, encode_block
from tests.kv.test_restore import ids_of
from tests.kv.tiers import a_prompt, archive_at, format_of, running, say, with_blocks
from tests.store.mutation import mutated

pytestmark = pytest.mark.usefixtures("patient")

NUM_MUTATIONS = 1000
PROMPTS = [a_prompt(2 * BLOCK_LEN + 1, seed) for seed in range(NUM_MUTATIONS)]
LIMITS = with_blocks(3 * NUM_MUTATIONS)


async def spoken(model, archive, prompts):
    """What sessions with these prompts get, some at a time."""
    said = []
    async with running(model, archive, limits=LIMITS) as engine:
        for start in range(0, len(prompts), 50):
            group = prompts[start : start + 50]
            said += await asyncio.gather(*(say(engine, prompt) for prompt in group))
        num_blocks = engine.restorer.counters.num_blocks
    return said, num_blocks


async def test_a_thousand_mutations_are_a_thousand_misses(lean, shared_server, redis):
    block_format = format_of(lean)
    right, _ = await spoken(lean, archive_at(shared_server.url, block_format), PROMPTS)
    assert redis.dbsize() == 2 * NUM_MUTATIONS
    archive = archive_at(shared_server.url, block_format)
    chance = random.Random(5)
    keys = []
    num_good = 0
    for prompt in PROMPTS:
        index = chance.randrange(2)
        num_good += index  # blocks before the one that is spoilt
        key = archive.store.key(ids_of(prompt)[index])
        value = redis.get(key)
        spoilt = value
        while spoilt == value:
            spoilt = mutated(value, chance)
        redis.set(key, spoilt)
        keys.append(key)
    said, num_restored = await spoken(lean, archive, PROMPTS)
    assert archive.store.counters.num_refused == NUM_MUTATIONS
    assert num_restored == num_good
    for one, other in zip(said, right, strict=True):
        torch.testing.assert_close(one.rows, other.rows, atol=1e-4, rtol=1e-4)
        assert one.token_ids == other.token_ids
    # What was refused was computed, and is there again.
    for prompt in PROMPTS:
        for block_id in ids_of(prompt):
            value = redis.get(archive.store.key(block_id))
            assert decode_block(block_format, block_id, value) is not None


async def test_a_twin_that_believes_every_value_is_caught(lean, shared_server, redis, monkeypatch):
    block_format, prompt = format_of(lean), PROMPTS[0]
    (right,), _ = await spoken(lean, archive_at(shared_server.url, block_format), [prompt])
    archive = archive_at(shared_server.url, block_format)
    block_id = ids_of(prompt)[0]
    key = archive.store.key(block_id)
    numbers = decode_block(block_format, block_id, redis.get(key))
    value = encode_block(block_format, block_id, numbers[::-1].copy())
    redis.set(key, value[:-CHECKSUM_BYTES] + bytes(CHECKSUM_BYTES))

    def believe(block_format, block_id, value) -> Numbers:
        header = len(value) - CHECKSUM_BYTES - block_format.num_bytes
        return np.frombuffer(value[header:-CHECKSUM_BYTES], np.float32)

    monkeypatch.setattr(block_store, "decode_block", believe)
    (said,), num_restored = await spoken(lean, archive, [prompt])
    assert num_restored == 2
    with pytest.raises(AssertionError):
        torch.testing.assert_close(said.rows, right.rows, atol=1e-4, rtol=1e-4)
