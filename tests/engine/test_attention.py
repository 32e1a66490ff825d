"""Attention in C gives a token the same numbers, to the last bit, whatever else is in the pass, how
its text is cut and what was cached, in every build and with any number of threads."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise

import pytest
import torch

from forethought.engine.model.attention import AttentionKind, Context, KVShape, LayerPool
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack
from forethought.engine.native import kernels
from forethought.engine.native.structures import Attention
from tests.engine.test_lean_decoder import cut

CPU = torch.device("cpu")
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
LENGTH = 333  # three chunks of keys, the last one no whole number of blocks
NUM_BLOCKS = -(-LENGTH // BLOCK_LEN)
CUTS = {
    "one at the end": [LENGTH - 1, 1],
    "one at the beginning": [1, LENGTH - 1],
    "behind 128 cached ones": [128, LENGTH - 128],
    "behind what is no whole block": [131, 200, 2],
    "chunks of 64": cut(LENGTH, 64),
    "rounds of 5 behind a prompt": [303, *cut(30, 5)],
    "all one by one": [1] * LENGTH,
}
SHAPES = [(1, 1, 16, None), (6, 2, 64, None), (7, 1, 80, None), (8, 2, 32, 40), (2, 1, 48, 150)]
"""Query heads, key-value heads, head size, window."""


@pytest.fixture(params=kernels.builds_for_this_machine())
def build(request: pytest.FixtureRequest):
    return kernels.load_build(request.param)


class Layer:
    """One layer's queries, and the keys and values of a text. What was never written is no
    number."""

    def __init__(self, num_heads, num_kv_heads, dim, window, dtype):
        generator = torch.Generator().manual_seed(7)

        def normal(*shape):
            return torch.randn(shape, generator=generator)

        self.num_heads, self.num_kv_heads, self.dim, self.window = (
            num_heads,
            num_kv_heads,
            dim,
            window,
        )
        self.queries = normal(LENGTH, num_heads, dim) * 2 * dim**-0.5
        self.keys, self.values = normal(2, LENGTH, num_kv_heads, dim)
        self.pool = LayerPool.empty(KVShape(num_kv_heads, dim, dim), 2 * NUM_BLOCKS, dtype, CPU)
        for numbers in (self.pool.keys, self.pool.values):
            numbers.fill_(math.nan)
        self.blocks = torch.randperm(2 * NUM_BLOCKS, generator=generator).tolist()

    def part(self, start: int, end: int, which: int = 0) -> SequencePart:
        """Tokens of the text, in the blocks of one of two sequences."""
        own = self.blocks[which * NUM_BLOCKS :][:NUM_BLOCKS]
        return SequencePart([0] * (end - start), start, own, 1)

    def attend(self, build, parts: Sequence[SequencePart]) -> torch.Tensor:
        """[T, H D] of a pass, whose keys and values are written first."""
        packed, queries = self.packed(parts)
        out = torch.empty(len(queries), self.num_heads * self.dim)
        build.attend(
            Attention(
                num_heads=self.num_heads,
                num_kv_heads=self.num_kv_heads,
                head_dim=self.dim,
                dtype=0,
                kv_dtype=DTYPES[self.pool.keys.dtype],
                queries=queries.data_ptr(),
                keys=self.pool.keys.data_ptr(),
                values=self.pool.values.data_ptr(),
                positions=packed.positions.data_ptr(),
                window=self.window or 0,
                starts=packed.starts.data_ptr(),
                tables=packed.tables.data_ptr(),
                num_sequences=len(parts),
                width=packed.tables.shape[1],
                out=out.data_ptr(),
            )
        )
        return out

    def packed(self, parts: Sequence[SequencePart]) -> tuple[PackedPass, torch.Tensor]:
        packed = pack(parts, CPU)
        positions = packed.positions.long()
        self.pool.write(self.keys[positions], self.values[positions], packed.slots)
        return packed, self.queries[positions].contiguous()

    def in_pieces(self, build, lengths: Sequence[int], beside: int = 0) -> torch.Tensor:
        """[LENGTH, H D]: a pass for each piece, with a piece of another sequence in front of it
        that has `beside` tokens."""
        pieces = []
        for start, end in pairwise(accumulate(lengths, initial=0)):
            others = [self.part(0, beside, which=1)] if beside else []
            pieces.append(self.attend(build, [*others, self.part(start, end)])[beside:])
        return torch.cat(pieces)

    def expected(self) -> torch.Tensor:
        """[LENGTH, H D] in float64, of keys and values as the pool has them."""
        dtype, group = self.pool.keys.dtype, self.num_heads // self.num_kv_heads
        keys, values = (
            numbers.to(dtype).double().repeat_interleave(group, dim=1)
            for numbers in (self.keys, self.values)
        )
        scores = torch.einsum("thd,lhd->htl", self.queries.double(), keys)
        seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        if self.window:
            seen.triu_(1 - self.window)
        weights = scores.masked_fill(~seen, -math.inf).softmax(dim=-1)
        return torch.einsum("htl,lhd->thd", weights, values).flatten(1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_token_has_the_same_numbers_however_its_text_is_cut(build, shape, dtype):
    layer = Layer(*shape, dtype)
    whole = layer.in_pieces(build, [LENGTH])
    torch.testing.assert_close(whole.double(), layer.expected(), atol=1e-5, rtol=1e-5)
    for name, lengths in CUTS.items():
        assert torch.equal(layer.in_pieces(build, lengths), whole), name


@pytest.mark.parametrize("beside", [1, 5, 200])
def test_a_token_has_the_same_numbers_whatever_is_in_the_pass(build, beside):
    layer = Layer(6, 2, 64, None, torch.bfloat16)
    whole = layer.in_pieces(build, [LENGTH])
    for lengths in ([LENGTH], [300, 33], [300, *[1] * 33]):
        assert torch.equal(layer.in_pieces(build, lengths, beside), whole)


@pytest.mark.parametrize("num_threads", [2, 5])
def test_a_token_has_the_same_numbers_with_any_number_of_threads(build, num_threads):
    layer = Layer(7, 1, 80, None, torch.float32)
    alone = layer.in_pieces(build, [300, 33])
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        assert torch.equal(layer.in_pieces(build, [300, 33]), alone)
    finally:
        torch.set_num_threads(before)


def test_attention_in_torch_is_told_apart(build):
    """The broken twin: its sums depend on the cut."""
    layer = Layer(6, 2, 64, None, torch.bfloat16)

    def in_torch(lengths):
        pieces = []
        for start, end in pairwise(accumulate(lengths, initial=0)):
            packed, queries = layer.packed([layer.part(start, end)])
            kind = AttentionKind(1.0, None)
            pieces.append(Context(packed).attend(0, queries, layer.pool, kind).flatten(1))
        return torch.cat(pieces)

    whole = in_torch([LENGTH])
    torch.testing.assert_close(whole.double(), layer.expected(), atol=1e-5, rtol=1e-5)
    assert not torch.equal(in_torch([300, *[1] * 33]), whole)
    assert not torch.equal(layer.in_pieces(build, [LENGTH]), whole)
