"""A block of keys and values as one binary value.

    offset  bytes
    0       4       "FTKV"
    4       1       version of this layout: 1
    5       1       number format: 1 float16, 2 bfloat16, 3 float32
    6       1       D, number of dimensions
    7       1       0
    8       4       n, number of tokens
    12      16      BLAKE2b of the model's fingerprint and the name of the layout
    28      16      block hash: of all tokens up to the block's end, and the tenant's salt
    44      4 * D   shape
    ...     4 * n   token ids
    ...             the numbers, row-major
    end-8   8       XXH3-64 of all before

Integers are unsigned, all is little-endian. Who reads a value knows what it should be, so reading
compares the header as a whole: whatever is not exactly as expected is a miss. So are numbers that
are infinite or none: a replica that computes nonsense may have written them with a true checksum.
"""

import struct
from dataclasses import dataclass
from hashlib import blake2b
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from forethought.errors import InvalidArgumentError

Numbers = npt.NDArray[Any]
"""Keys and values of a block: float32, or uint16 that holds the bits of float16 or bfloat16."""

HASH_BYTES = 16
VERSION = 1
"""Of the layout."""
_MAGIC = b"FTKV"
_CHECKSUM_BYTES = 8
_DTYPES: dict[str, tuple[int, str]] = {  # number format, and numpy's name for its bits
    "float16": (1, "<u2"),
    "bfloat16": (2, "<u2"),
    "float32": (3, "<f4"),
}
_INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}
"""Bits of the least that is no finite number, sign aside."""


@dataclass(frozen=True, slots=True)
class BlockFormat:
    """What all blocks of one model on one kind of engine have in common.

    Raises:
        InvalidArgumentError: the number format is not known, or the shape is none.
    """

    model: str  # fingerprint
    layout: str  # how the engine lays out keys and values within the shape
    dtype: str  # "float16", "bfloat16" or "float32"
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise InvalidArgumentError({"dtype": f"must be one of {', '.join(_DTYPES)}"})
        if not 1 <= len(self.shape) <= 255 or min(self.shape) < 1:
            raise InvalidArgumentError({"shape": "must have positive sizes"})

    @property
    def bits_dtype(self) -> np.dtype[Any]:
        """numpy's type of the numbers, or of their bits."""
        return np.dtype(_DTYPES[self.dtype][1])

    @property
    def num_bytes(self) -> int:
        """Size of the numbers of a block."""
        return prod(self.shape) * self.bits_dtype.itemsize

    @property
    def model_hash(self) -> bytes:
        """Stands for the model and the layout."""
        name = f"{len(self.model)} {self.model} {self.layout}"
        return blake2b(name.encode(), digest_size=HASH_BYTES).digest()

    @property
    def key_hash(self) -> str:
        """Stands for the whole format, in the keys of its blocks."""
        name = b"%s %s %r" % (self.model_hash, self.dtype.encode(), self.shape)
        return blake2b(name, digest_size=HASH_BYTES).hexdigest()

    def check(self, numbers: Numbers) -> None:
        """Raises InvalidArgumentError if the numbers are not of this format."""
        if numbers.shape != self.shape or numbers.dtype != self.bits_dtype:
            text = f"{numbers.dtype} {numbers.shape} instead of {self.bits_dtype} {self.shape}"
            raise InvalidArgumentError({"numbers": text})

    def are_finite(self, numbers: Numbers) -> bool:
        """Whether none of the numbers is infinite or not a number."""
        infinity = _INFINITY.get(self.dtype)
        if infinity is None:
            return bool(np.isfinite(numbers).all())
        return bool((numbers & 0x7FFF).max() < infinity)


@dataclass(frozen=True, slots=True)
class BlockId:
    """Which block: its place in a chain, and its own tokens.

    Raises:
        InvalidArgumentError: the hash is not of 16 bytes.
    """

    block_hash: bytes  # of all tokens up to its end, and the tenant's salt
    token_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.block_hash) != HASH_BYTES:
            raise InvalidArgumentError({"block_hash": f"must be of {HASH_BYTES} bytes"})


def encode_block(block_format: BlockFormat, block_id: BlockId, numbers: Numbers) -> bytes:
    """The value of a block.

    Raises:
        InvalidArgumentError: the numbers are not of this format.
    """
    block_format.check(numbers)
    header = _header(block_format, block_id)
    data = np.ascontiguousarray(numbers).data.cast("B")
    checksum = xxhash.xxh3_64(header)
    checksum.update(data)
    return b"".join((header, data, checksum.digest()))


def decode_block(
    block_format: BlockFormat, block_id: BlockId, value: bytes | None
) -> Numbers | None:
    """The numbers of a block, a read-only view of the value; None if it is not exactly this one, or
    not all of its numbers are finite."""
    header = _header(block_format, block_id)
    end = len(header) + block_format.num_bytes
    if value is None or len(value) != end + _CHECKSUM_BYTES or not value.startswith(header):
        return None
    view = memoryview(value)
    if xxhash.xxh3_64_digest(view[:end]) != view[end:]:
        return None
    numbers = np.frombuffer(view[len(header) : end], block_format.bits_dtype)
    if not block_format.are_finite(numbers):
        return None
    return numbers.reshape(block_format.shape)


def encoded_len(block_format: BlockFormat, num_tokens: int) -> int:
    """Size of the value of a block of so many tokens, bytes."""
    header = _FIXED.size + 4 * (len(block_format.shape) + num_tokens)
    return header + block_format.num_bytes + _CHECKSUM_BYTES


_FIXED = struct.Struct(f"<4s4BI{HASH_BYTES}s{HASH_BYTES}s")


def _header(block_format: BlockFormat, block_id: BlockId) -> bytes:
    shape, token_ids = block_format.shape, block_id.token_ids
    fixed = _FIXED.pack(
        _MAGIC,
        VERSION,
        _DTYPES[block_format.dtype][0],
        len(shape),
        0,
        len(token_ids),
        block_format.model_hash,
        block_id.block_hash,
    )
    return fixed + struct.pack(f"<{len(shape) + len(token_ids)}I", *shape, *token_ids)
