"""A table of counts as one file.

    offset  bytes
    0       4       "FTCN"
    4       1       version of this layout: 1
    5       1       N, longest context, tokens
    6       1       b: there are 2**b buckets
    7       1       0
    8       4       V, size of the vocabulary
    12      4       n, number of contexts
    16      4       g, number of guesses
    20      4       0
    24      8       number of tokens that were counted
    32      16      fingerprint of the vocabulary
    48      4 * (2**b + 1)   where buckets begin
    ...     4 * n   checks
    ...     4 * (n + 1)      where the guesses of each context begin
    ...     4 * g   guesses
    end-8   8       XXH3-64 of all before

Integers are unsigned, all is little-endian; `table` says what the arrays mean. Reading checks all
of it once, some milliseconds, so that a lookup need not. The arrays stay in the mapped file.
"""

import mmap
import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import xxhash

from forethought.counts.table import MAX_CONTEXT, MAX_VOCAB_SIZE, CountsTable
from forethought.errors import ModelReferenceError, VocabularyMismatchError

VERSION = 1
_MAGIC = b"FTCN"
_HEADER = struct.Struct("<4sBBBxIII4xQ16s")
_CHECKSUM = struct.Struct("<Q")
_ITEM_BYTES = 4


@dataclass(frozen=True, slots=True)
class Counts:
    """A table, and whose it is."""

    table: CountsTable
    vocabulary_fingerprint: str  # 32 hex digits
    num_tokens: int  # that were counted


def write_counts(path: Path, counts: Counts) -> int:
    """Writes a file, in the place of one that is there. Returns its size in bytes.

    Raises:
        OSError: it cannot be written.
    """
    table = counts.table
    header = _HEADER.pack(
        _MAGIC,
        VERSION,
        table.max_context,
        (len(table.starts) - 1).bit_length() - 1,
        table.vocab_size,
        len(table),
        len(table.guesses),
        counts.num_tokens,
        bytes.fromhex(counts.vocabulary_fingerprint),
    )
    content = b"".join([header, table.starts, table.checks, table.firsts, table.guesses])
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(content)))
    unfinished.replace(path)
    return len(content) + _CHECKSUM.size


def read_counts(path: Path, vocabulary_fingerprint: str) -> Counts:
    """Maps a file for a tokenizer with this fingerprint.

    Raises:
        ModelReferenceError: it cannot be read, or is not a whole and sound file of counts.
        VocabularyMismatchError: it was made for another vocabulary.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        raise ModelReferenceError(f"cannot read counts from {path}: {error}") from error
    counts = _parse(path, content)
    if counts.vocabulary_fingerprint != vocabulary_fingerprint:
        raise VocabularyMismatchError(
            f"the counts in {path} are of another vocabulary than the model's",
            metadata={
                "counts": counts.vocabulary_fingerprint,
                "model": vocabulary_fingerprint,
            },
        )
    return counts


def _parse(path: Path, content: memoryview) -> Counts:
    if len(content) < _HEADER.size + _CHECKSUM.size or bytes(content[:4]) != _MAGIC:
        raise ModelReferenceError(f"{path} is not a file of counts")
    _, version, max_context, bits, vocab_size, n, g, num_tokens, vocabulary = _HEADER.unpack_from(
        content
    )
    if version != VERSION:
        raise ModelReferenceError(
            f"{path} has version {version} of the layout of counts, and here {VERSION} is known: "
            "count anew"
        )
    sizes = [_HEADER.size, *(_ITEM_BYTES * each for each in (2**bits + 1, n, n + 1, g))]
    ends = list(accumulate(sizes))
    body = content[: -_CHECKSUM.size]
    (checksum,) = _CHECKSUM.unpack(content[-_CHECKSUM.size :])
    if len(body) != ends[-1] or xxhash.xxh3_64_intdigest(body) != checksum:
        raise ModelReferenceError(f"the file of counts {path} is damaged or cut off")
    parts = (body[start:end].cast("I") for start, end in pairwise(ends))
    counts = Counts(
        CountsTable(vocab_size, max_context, *parts), bytes(vocabulary).hex(), num_tokens
    )
    if not _is_sound(counts.table):
        raise ModelReferenceError(f"the file of counts {path} contradicts itself")
    return counts


def _is_sound(table: CountsTable) -> bool:
    """Whether no lookup can leave the arrays, or guess nothing, or what is no token."""
    starts, firsts, guesses = map(np.asarray, (table.starts, table.firsts, table.guesses))
    return bool(
        1 <= table.max_context <= MAX_CONTEXT
        and table.vocab_size <= MAX_VOCAB_SIZE
        and len(starts) > 1
        and starts[0] == 0
        and starts[-1] == len(table)
        and (starts[1:] >= starts[:-1]).all()
        and firsts[0] == 0
        and firsts[-1] == len(guesses)
        and (firsts[1:] > firsts[:-1]).all()
        and (guesses & 0xFF).all()
        and (guesses >> 8 < table.vocab_size).all()
    )
