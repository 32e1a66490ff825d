"""Byte strings that notice when they have been changed.

    kind (4 bytes)   length of each part (u32 each)   parts   XXH3-64 of all that and the context

The context is what the value belongs to, such as its session and place. It is not stored, but it
is in the checksum: a value that is found elsewhere does not open. The kind names the version too.
A checksum is no signature: it is for accidents, not for whoever may write to the store.
"""

import struct
from collections.abc import Sequence

import xxhash

_KIND_BYTES = 4
_CHECKSUM_BYTES = 8


def seal(kind: bytes, context: bytes, parts: Sequence[bytes]) -> bytes:
    """`parts` in one value."""
    body = b"".join((kind, _lengths(parts), *parts))
    return body + _checksum(context, body)


def unseal(kind: bytes, context: bytes, num_parts: int, value: bytes) -> tuple[bytes, ...] | None:
    """The parts of a value, or None if it is not one of this kind, place and number of parts."""
    start = _KIND_BYTES + 4 * num_parts
    body, checksum = value[:-_CHECKSUM_BYTES], value[-_CHECKSUM_BYTES:]
    if len(body) < start or not body.startswith(kind) or _checksum(context, body) != checksum:
        return None
    parts: list[bytes] = []
    for length in struct.unpack_from(f"<{num_parts}I", body, _KIND_BYTES):
        parts.append(body[start : start + length])
        start += length
    return tuple(parts) if start == len(body) else None


def _lengths(parts: Sequence[bytes]) -> bytes:
    return struct.pack(f"<{len(parts)}I", *map(len, parts))


def _checksum(context: bytes, body: bytes) -> bytes:
    digest = xxhash.xxh3_64()
    digest.update(struct.pack("<I", len(context)))
    digest.update(context)
    digest.update(body)
    return digest.digest()
