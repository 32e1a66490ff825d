"""Reading GGUF files: settings and tensors of a model in one file.

The format (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): a header, metadata as
key-value pairs, a table of tensors, then their data at an alignment. The `gguf` package reads it
too, but makes several arrays of every token of the vocabulary, which takes seconds.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32  # bytes


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """One tensor as it is stored."""

    kind: str  # of ggml, for example "F32" or "Q4_1"
    shape: tuple[int, ...]  # in elements, as torch orders them
    data: npt.NDArray[np.uint8]  # [*shape[:-1], bytes of a row], mapped from the file

    def dequantized(self) -> npt.NDArray[np.float32]:
        """The values, of the tensor's shape, in an array of the caller's own.

        Raises:
            NotImplementedError: this kind cannot be dequantised.
        """
        values: npt.NDArray[np.float32] = dequantize(self.data, GGMLQuantizationType[self.kind])
        # What needed no dequantising is still the file.
        return values if values.flags.writeable else values.copy()


@dataclass(frozen=True, slots=True)
class GGUFFile:
    """What a file says of its model, and its tensors by name."""

    metadata: dict[str, Any]  # numbers, booleans, strings, and lists of them
    tensors: dict[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Reads all but the tensors' data, which are mapped: 0.1 s for a vocabulary of 49,152.

    Raises:
        ValueError: not a GGUF file, or of a version or with values of a kind that is not known.
        OSError: the file cannot be read.
    """
    # [bytes of the file]; as a plain array, since each view of a memmap costs more.
    data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    try:
        return _read(data)
    except (struct.error, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f"damaged GGUF file: {error!r}") from error


def _read(data: npt.NDArray[np.uint8]) -> GGUFFile:
    cursor = _Cursor(data.data)
    if bytes(cursor.buffer[:4]) != _MAGIC:
        raise ValueError("not a GGUF file")
    cursor.offset = len(_MAGIC)
    version, num_tensors, num_pairs = cursor.unpack("IQQ")
    if version not in _VERSIONS:
        raise ValueError(f"GGUF version {version}, known are {_VERSIONS}")
    metadata = {cursor.string(): cursor.value(*cursor.unpack("I")) for _ in range(num_pairs)}
    table = [_read_table_row(cursor) for _ in range(num_tensors)]
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    start = -(-cursor.offset // alignment) * alignment
    return GGUFFile(
        metadata,
        {
            name: _map_tensor(data[start + offset :], shape, GGMLQuantizationType(kind))
            for name, shape, kind, offset in table
        },
    )


def _read_table_row(cursor: "_Cursor") -> tuple[str, tuple[int, ...], int, int]:
    name = cursor.string()
    (num_dimensions,) = cursor.unpack("I")
    # ggml names the dimension that moves fastest first, torch last.
    shape = cursor.unpack(f"{num_dimensions}Q")[::-1]
    kind, offset = cursor.unpack("IQ")
    return name, shape, kind, offset


def _map_tensor(
    data: npt.NDArray[np.uint8], shape: tuple[int, ...], kind: GGMLQuantizationType
) -> GGUFTensor:
    block_len, block_bytes = GGML_QUANT_SIZES[kind]  # elements, bytes
    stored_shape = (*shape[:-1], shape[-1] // block_len * block_bytes)
    return GGUFTensor(kind.name, shape, data[: prod(stored_shape)].reshape(stored_shape))


@dataclass(slots=True)
class _Cursor:
    """A place in the file that moves on with each read. Numbers are little-endian."""

    buffer: memoryview
    offset: int = 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.buffer, self.offset)
        self.offset += struct.calcsize("<" + layout)
        return values

    def string(self) -> str:
        (length,) = self.unpack("Q")
        start, self.offset = self.offset, self.offset + length
        return str(self.buffer[start : self.offset], "utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.unpack(_SCALARS[kind])[0]
        kind, count = self.unpack("IQ")
        if kind in _SCALARS:
            return list(self.unpack(f"{count}{_SCALARS[kind]}"))
        return [self.value(kind) for _ in range(count)]
