"""All of a GGUF file but the tensors' data: its metadata and, on request, its table of tensors.

The format is the GGUF specification, versions 2 and 3 (docs/gguf.md in the ggml repository):

    magic "GGUF" | uint32 version | uint64 tensor count | uint64 pair count | pairs | table | data
    pair:   string key | uint32 type | value
    string: uint64 length in bytes | UTF-8
    array:  uint32 type | uint64 count | values
    table:  of each tensor, string name | uint32 dimension count | uint64 dimensions, the one that
            moves fastest first | uint32 kind | uint64 offset in the data

all little-endian; the data starts at the next multiple of `general.alignment`.
`gguf.GGUFReader` keeps a numpy view for every array element: 2.6 s for a vocabulary of 49,152,
against 0.03 s here. Every length is checked against the bytes that are left before it is used, so
a cut or foreign file is refused, never over-read.
"""

import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forethought.errors import ModelReferenceError
from forethought.models.files.weight_files import what_is_wrong

Scalar = str | int | float | bool
GgufMetadata = Mapping[str, Scalar | Sequence[Scalar]]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_DEFAULT_ALIGNMENT = 32  # bytes
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class GgufTableRow:
    """Where one tensor is. Neither its kind nor its end is checked: kinds are the engine's."""

    name: str
    kind: int
    """The number of a ggml type, for example 3 for Q4_1."""
    shape: tuple[int, ...]
    """In elements, as torch orders them: the dimension that moves fastest last. Never empty."""
    offset: int
    """Bytes from the start of the file."""


@dataclass(frozen=True, slots=True)
class GgufHeader:
    metadata: GgufMetadata
    tensors: Sequence[GgufTableRow]


def read_gguf_metadata(path: Path) -> GgufMetadata:
    """All key-value pairs of the file; arrays are lists. Raises ModelReferenceError."""
    with _reading(path) as reader:
        return reader.metadata()


def read_gguf_header(path: Path) -> GgufHeader:
    """The pairs and the table of tensors. Raises ModelReferenceError."""
    with _reading(path) as reader:
        metadata = reader.metadata()
        return GgufHeader(metadata, reader.table(metadata))


@contextmanager
def _reading(path: Path) -> Iterator["_Reader"]:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield _Reader(data)
    except FileNotFoundError as error:
        raise ModelReferenceError(f"Cannot read {path}: it is not there") from error
    except (OSError, ValueError) as error:  # ValueError: empty, bad UTF-8, or by _Reader
        if wrong := what_is_wrong(path):
            raise ModelReferenceError(wrong) from error
        raise ModelReferenceError(f"Cannot read {path} as GGUF: {error}.") from error


class _Reader:
    """A position that moves through the mapped file: first `metadata`, then `table`.

    Raises ValueError for bytes that are not what the specification says.
    """

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._position = 0
        self._num_tensors = 0

    def metadata(self) -> GgufMetadata:
        if self._take(4) != _MAGIC:
            raise ValueError("it does not start with the bytes 'GGUF'")
        version = self._uint32()
        if version not in _VERSIONS:
            raise ValueError(f"version {version} is not one of {_VERSIONS}")
        self._num_tensors = self._uint64()
        return dict(self._pair() for _ in range(self._uint64()))

    def table(self, metadata: GgufMetadata) -> list[GgufTableRow]:
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if type(alignment) is not int or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        rows = [self._table_row() for _ in range(self._num_tensors)]
        start = -(-self._position // alignment) * alignment
        return [GgufTableRow(name, kind, shape, start + at) for name, kind, shape, at in rows]

    def _table_row(self) -> tuple[str, int, tuple[int, ...], int]:
        (name,) = self._strings(1)
        num_dimensions = self._uint32()
        if not 1 <= num_dimensions <= _MAX_DIMENSIONS:
            raise ValueError(f"tensor {name!r} has {num_dimensions} dimensions")
        shape = tuple(self._uint64() for _ in range(num_dimensions))[::-1]
        if 0 in shape:
            raise ValueError(f"tensor {name!r} has the shape {shape}")
        return name, self._uint32(), shape, self._uint64()

    def _pair(self) -> tuple[str, Scalar | Sequence[Scalar]]:
        (key,) = self._strings(1)
        kind = self._uint32()
        if kind != _ARRAY:
            return key, self._values(kind, 1)[0]
        kind = self._uint32()
        return key, self._values(kind, self._uint64())

    def _values(self, kind: int, count: int) -> Sequence[Scalar]:
        if kind == _STRING:
            return self._strings(count)
        if kind not in _SCALARS:
            raise ValueError(f"value type {kind} at byte {self._position} is not supported")
        width = struct.calcsize(f"<{_SCALARS[kind]}")
        return list(struct.unpack(f"<{count}{_SCALARS[kind]}", self._take(count * width)))

    def _strings(self, count: int) -> list[str]:
        """The one hot loop: a vocabulary is a hundred thousand strings."""
        data, size, position, strings = self._data, self._size, self._position, []
        self._require(count * _LENGTH.size)
        for _ in range(count):
            start = position + _LENGTH.size
            if start > size:
                raise ValueError(f"it ends inside a string at byte {position}")
            position = start + _LENGTH.unpack_from(data, position)[0]
            if position > size:
                raise ValueError(f"it ends inside a string at byte {start}")
            strings.append(data[start:position].decode())
        self._position = position
        return strings

    def _uint32(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def _uint64(self) -> int:
        return int.from_bytes(self._take(8), "little")

    def _take(self, num_bytes: int) -> bytes:
        self._require(num_bytes)
        start = self._position
        self._position += num_bytes
        return self._data[start : self._position]

    def _require(self, num_bytes: int) -> None:
        left = self._size - self._position
        if num_bytes > left:
            raise ValueError(
                f"{num_bytes} bytes are announced at byte {self._position}, {left} are left"
            )
