"""A stored block is what it should be, or a miss."""

import random
from dataclasses import replace

import numpy as np
import pytest

from forethought.errors import InvalidArgumentError
from forethought.store.blocks.block_codec import (
    BlockFormat,
    BlockId,
    decode_block,
    encode_block,
    encoded_len,
)
from tests.store.blocks import FORMAT, a_chain, numbers_of
from tests.store.mutation import mutated

BLOCK = a_chain(3)[2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_block_is_read_as_it_was_written(dtype: str):
    block_format = replace(FORMAT, dtype=dtype)
    numbers = numbers_of(BLOCK, block_format)
    value = encode_block(block_format, BLOCK, numbers)
    assert len(value) == encoded_len(block_format, 16)
    read = decode_block(block_format, BLOCK, value)
    assert read.dtype == numbers.dtype
    np.testing.assert_array_equal(read, numbers)
    assert not read.flags.writeable


def test_the_smallest_and_the_largest_numbers_keep_their_bits():
    block_format = replace(FORMAT, dtype="float32", shape=(4,))
    numbers = np.array([np.finfo(np.float32).max, -0.0, -3.4e38, 1e-45], np.float32)
    read = decode_block(block_format, BLOCK, encode_block(block_format, BLOCK, numbers))
    assert read.tobytes() == numbers.tobytes()


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0xFFFF], ids=hex)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_block_with_a_number_that_is_none_is_a_miss_whatever_its_checksum(dtype, bits):
    block_format = replace(FORMAT, dtype=dtype)
    numbers = numbers_of(BLOCK, block_format).copy()
    number = {"bfloat16": bits, "float16": bits & 0xFC7F | 0x7C00}.get(dtype)
    if number is None:
        number = np.array([bits << 16], np.uint32).view(np.float32)[0]
    numbers.flat[-1] = number
    assert decode_block(block_format, BLOCK, encode_block(block_format, BLOCK, numbers)) is None


@pytest.mark.parametrize(("dtype", "largest"), [("bfloat16", 0x7F7F), ("float16", 0x7BFF)])
def test_the_largest_finite_number_of_a_format_is_read(dtype, largest):
    block_format = replace(FORMAT, dtype=dtype)
    numbers = np.full_like(numbers_of(BLOCK, block_format), largest | 0x8000)
    assert decode_block(block_format, BLOCK, encode_block(block_format, BLOCK, numbers)) is not None


def test_numbers_in_any_order_of_memory_are_written_row_by_row():
    numbers = np.asfortranarray(numbers_of(BLOCK))
    read = decode_block(FORMAT, BLOCK, encode_block(FORMAT, BLOCK, numbers))
    np.testing.assert_array_equal(read, numbers)


def test_the_layout_is_the_documented_one():
    value = encode_block(FORMAT, BLOCK, numbers_of(BLOCK))
    assert value[:12] == b"FTKV" + bytes([1, 2, 5, 0]) + (16).to_bytes(4, "little")
    assert value[28:44] == BLOCK.block_hash
    assert value[44:48] == (4).to_bytes(4, "little")
    assert value[64:68] == (32).to_bytes(4, "little")


def test_every_one_of_5000_mutations_is_a_miss():
    value = encode_block(FORMAT, BLOCK, numbers_of(BLOCK))
    chance = random.Random(1)
    num_mutations = 0
    while num_mutations < 5000:
        mutation = mutated(value, chance)
        if mutation != value:
            num_mutations += 1
            assert decode_block(FORMAT, BLOCK, mutation) is None


def test_every_flipped_bit_of_the_header_and_every_shorter_value_is_a_miss():
    value = encode_block(FORMAT, BLOCK, numbers_of(BLOCK))
    for bit in range(8 * 128):
        flipped = bytearray(value)
        flipped[bit // 8] ^= 1 << bit % 8
        assert decode_block(FORMAT, BLOCK, bytes(flipped)) is None
    for length in range(len(value)):
        assert decode_block(FORMAT, BLOCK, value[:length]) is None


@pytest.mark.parametrize(
    "other",
    [
        replace(FORMAT, model="another"),
        replace(FORMAT, layout="transformers"),
        replace(FORMAT, dtype="float16"),
        replace(FORMAT, dtype="float32"),
        replace(FORMAT, shape=(2, 4, 3, 16, 8)),
        replace(FORMAT, shape=(4, 2, 3, 128)),
        replace(FORMAT, shape=(4, 2, 3, 16, 4)),
    ],
)
def test_an_intact_block_of_another_format_is_a_miss(other: BlockFormat):
    value = encode_block(other, BLOCK, numbers_of(BLOCK, other))
    assert decode_block(other, BLOCK, value) is not None
    assert decode_block(FORMAT, BLOCK, value) is None
    assert other.key_hash != FORMAT.key_hash


@pytest.mark.parametrize(
    "other",
    [
        a_chain(3)[1],
        a_chain(3, salt=b"another tenant")[2],
        replace(BLOCK, token_ids=(*BLOCK.token_ids[:-1], 0)),
        replace(BLOCK, token_ids=BLOCK.token_ids[:-1]),
    ],
)
def test_an_intact_block_of_other_tokens_or_another_tenant_is_a_miss(other: BlockId):
    value = encode_block(FORMAT, other, numbers_of(other))
    assert decode_block(FORMAT, other, value) is not None
    assert decode_block(FORMAT, BLOCK, value) is None


def test_nothing_is_a_miss():
    assert decode_block(FORMAT, BLOCK, None) is None
    assert decode_block(FORMAT, BLOCK, b"") is None


def test_the_names_of_model_and_layout_do_not_run_into_each_other():
    one, other = replace(FORMAT, model="a b", layout="c"), replace(FORMAT, model="a", layout="b c")
    assert one.model_hash != other.model_hash


@pytest.mark.parametrize(
    "make",
    [
        lambda: replace(FORMAT, dtype="int8"),
        lambda: replace(FORMAT, shape=()),
        lambda: replace(FORMAT, shape=(4, 0)),
        lambda: BlockId(b"short", (1,)),
        lambda: encode_block(FORMAT, BLOCK, numbers_of(BLOCK).astype(np.float32)),
        lambda: encode_block(FORMAT, BLOCK, numbers_of(BLOCK)[:1]),
    ],
)
def test_what_cannot_be_a_block_is_refused(make):
    with pytest.raises(InvalidArgumentError):
        make()
