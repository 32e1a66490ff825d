"""The key-value section of a GGUF file, read without its tensors.

The format is the GGUF specification, versions 2 and 3 (docs/gguf.md in the ggml repository):

    magic "GGUF" | uint32 version | uint64 tensor count | uint64 pair count | pairs | ...
    pair:   string key | uint32 type | value
    string: uint64 length in bytes | UTF-8
    array:  uint32 type | uint64 count | values

all little-endian. `gguf.GGUFReader` keeps a numpy view for every array element and also reads the
tensor table: 2.6 s for a vocabulary of 49,152, against 0.03 s here. Every length is checked
against the bytes that are left before it is used, so a cut or foreign file is refused, never
over-read.
"""

import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from forethought.errors import ModelReferenceError

Scalar = str | int | float | bool
GgufMetadata = Mapping[str, Scalar | Sequence[Scalar]]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_LENGTH = struct.Struct("<Q")


class _MalformedError(Exception):
    """The bytes are not what the specification says. Never leaves this module."""


def read_gguf_metadata(path: Path) -> GgufMetadata:
    """All key-value pairs of the file. Raises ModelReferenceError."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data).pairs()
    except (OSError, ValueError, _MalformedError) as error:  # ValueError: an empty file, bad UTF-8
        raise ModelReferenceError(f"Cannot read {path} as GGUF: {error}.") from error


class _Reader:
    """A position that moves through the mapped file."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._position = 0

    def pairs(self) -> dict[str, Scalar | Sequence[Scalar]]:
        if self._take(4) != _MAGIC:
            raise _MalformedError("it does not start with the bytes 'GGUF'")
        (version,) = self._unpack("I", 1)
        if version not in _VERSIONS:
            raise _MalformedError(f"version {version} is not one of {_VERSIONS}")
        _num_tensors, num_pairs = self._unpack("Q", 2)
        return dict(self._pair() for _ in range(int(num_pairs)))

    def _pair(self) -> tuple[str, Scalar | Sequence[Scalar]]:
        (key,) = self._strings(1)
        (kind,) = self._unpack("I", 1)
        if kind != _ARRAY:
            (value,) = self._values(int(kind), 1)
            return key, value
        (kind,) = self._unpack("I", 1)
        (count,) = self._unpack("Q", 1)
        return key, self._values(int(kind), int(count))

    def _values(self, kind: int, count: int) -> Sequence[Scalar]:
        if kind == _STRING:
            return self._strings(count)
        if kind not in _SCALARS:
            raise _MalformedError(f"value type {kind} at byte {self._position} is not supported")
        return self._unpack(_SCALARS[kind], count)

    def _strings(self, count: int) -> list[str]:
        """The one hot loop: a vocabulary is a hundred thousand strings."""
        data, size, position, strings = self._data, self._size, self._position, []
        self._require(count * _LENGTH.size)
        for _ in range(count):
            start = position + _LENGTH.size
            if start > size:
                raise _MalformedError(f"it ends inside a string at byte {position}")
            position = start + _LENGTH.unpack_from(data, position)[0]
            if position > size:
                raise _MalformedError(f"it ends inside a string at byte {start}")
            strings.append(data[start:position].decode())
        self._position = position
        return strings

    def _unpack(self, code: str, count: int) -> tuple[int | float | bool, ...]:
        width = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{count}{code}", self._take(count * width))

    def _take(self, num_bytes: int) -> bytes:
        self._require(num_bytes)
        start = self._position
        self._position += num_bytes
        return self._data[start : self._position]

    def _require(self, num_bytes: int) -> None:
        left = self._size - self._position
        if num_bytes > left:
            raise _MalformedError(
                f"{num_bytes} bytes are announced at byte {self._position}, {left} are left"
            )
