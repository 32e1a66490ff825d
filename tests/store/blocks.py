"""Blocks to store."""

from hashlib import blake2b

import numpy as np

from forethought.store.blocks.block_codec import BlockFormat, BlockId, Numbers

FORMAT = BlockFormat("model-fingerprint", "lean", "bfloat16", (4, 2, 3, 16, 8))


def a_chain(num_blocks: int, salt: bytes = b"tenant") -> list[BlockId]:
    """Blocks that follow each other, each hash standing for all before."""
    block_ids, parent = [], blake2b(salt, digest_size=16).digest()
    for index in range(num_blocks):
        token_ids = tuple(range(16 * index, 16 * index + 16))
        parent = blake2b(repr(token_ids).encode(), key=parent, digest_size=16).digest()
        block_ids.append(BlockId(parent, token_ids))
    return block_ids


def numbers_of(block_id: BlockId, block_format: BlockFormat = FORMAT) -> Numbers:
    """Keys and values that only this block has, all of them finite."""
    chance = np.random.default_rng(list(block_id.block_hash))
    if block_format.dtype == "float32":
        return chance.standard_normal(block_format.shape, np.float32)
    return chance.integers(0, 2**16, block_format.shape, np.uint16) & np.uint16(0xBFFF)
