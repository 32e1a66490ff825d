"""A block read out of one pool and put into another is the same block."""

import numpy as np
import pytest
import torch

from forethought.engine.model.attention import KVShape, LayerPool
from forethought.engine.model.kv_layout import BlockAccess, KVLayout

SHAPES = (KVShape(2, 8, 8), KVShape(1, 16, 4))
CPU = torch.device("cpu")


def pools_of(dtype: torch.dtype, seed: int) -> list[LayerPool]:
    generator = torch.Generator().manual_seed(seed)
    pools = [LayerPool.empty(shape, 3, dtype, CPU) for shape in SHAPES]
    for pool in pools:
        for part in (pool.keys, pool.values):
            part.copy_(torch.randn(part.shape, generator=generator))
    return pools


def access(pools: list[LayerPool], kind: str) -> BlockAccess:
    made = BlockAccess(pools)
    if kind == "device":
        made._arrays = None  # as where numpy does not reach
    return made


@pytest.mark.parametrize("reader", ["memory", "device"])
@pytest.mark.parametrize("writer", ["memory", "device"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_block_goes_from_pool_to_pool_bit_by_bit_and_touches_no_other(dtype, reader, writer):
    source, target, before = pools_of(dtype, 1), pools_of(dtype, 2), pools_of(dtype, 2)
    numbers = access(source, reader).read(2)
    layout = KVLayout("lean", dtype, SHAPES)
    assert numbers.shape == layout.shape
    assert numbers.nbytes == layout.num_bytes
    assert numbers.dtype == (np.float32 if dtype is torch.float32 else np.uint16)
    numbers.flags.writeable = False
    access(target, writer).write(1, numbers)
    for own, theirs, old in zip(target, source, before, strict=True):
        for name in ("keys", "values"):
            mine, wanted, left = (getattr(pool, name) for pool in (own, theirs, old))
            assert torch.equal(mine[1], wanted[2])
            assert torch.equal(mine[[0, 2]], left[[0, 2]])


def test_what_was_read_stays_as_it_was_when_the_pool_changes():
    pools = pools_of(torch.float32, 1)
    numbers = BlockAccess(pools).read(0)
    kept = numbers.copy()
    pools[0].keys.zero_()
    assert np.array_equal(numbers, kept)


def test_layouts_are_told_apart_by_engine_number_format_and_layers():
    names = {
        KVLayout("lean", torch.float32, SHAPES).name,
        KVLayout("transformers", torch.float32, SHAPES).name,
        KVLayout("lean", torch.float32, SHAPES[::-1]).name,
        KVLayout("lean", torch.float32, SHAPES[:1] * 2).name,
    }
    assert len(names) == 4
    assert KVLayout("lean", torch.float32, SHAPES[:1] * 2).name == "lean 1: 2 x 2.8.8"
