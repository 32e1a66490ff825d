"""Fingerprints: whether two processes hold the same model, or the same vocabulary.

Cached KV blocks are keyed by the model's fingerprint and token ids are only exchanged under equal
vocabulary fingerprints, so a false match would change outputs. Reading tens of gigabytes at every
start is no option either: of each weight file the size, the first and last MiB and pages at even
distances in between are hashed. Any training or quantisation run touches every matrix, so it shows.
File names and places do not count: a copy is the same model.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input
from forethought.models.files.reference import ModelFiles

_DIGEST_BYTES = 16
_EDGE_BYTES = 1 << 20
_PAGE_BYTES = 4096
_NUM_PAGES = 64


def model_fingerprint(files: ModelFiles, salt: str = "") -> str:
    """32 hex digits of what the model computes.

    `salt` carries what else changes the numbers, such as the number format. Raises
    ModelReferenceError for a model without weight files, or with files that cannot be read.
    """
    config = files.folder / "config.json"
    weights = files.weight_files()
    if not weights:
        raise ModelReferenceError(
            f"Cannot fingerprint model {files.reference!r}: {files.folder} has no weight files."
        )
    try:
        parts = [b"" if files.gguf is not None else read_input(config)]
        # Sorted by digest: neither names nor their order are part of the model.
        parts += sorted(_digest(_samples(path)) for path in weights)
    except OSError as error:
        raise ModelReferenceError(
            f"Cannot fingerprint model {files.reference!r}: {error}"
        ) from error
    return _digest(iter([salt.encode(), *parts])).hex()


def vocabulary_fingerprint(tokens: Sequence[str]) -> str:
    """32 hex digits of the tokens' strings in the order of their ids."""
    return _digest(token.encode("utf-8", "surrogatepass") for token in tokens).hex()


def _digest(parts: Iterator[bytes]) -> bytes:
    """Each part goes in with its length, so that moving a boundary changes the digest."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _samples(path: Path) -> Iterator[bytes]:
    """The size, the first and last MiB, and even pages of the rest."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        yield size.to_bytes(8, "little")
        between = max(0, size - 2 * _EDGE_BYTES)
        pages = [
            (_EDGE_BYTES + between * index // _NUM_PAGES, min(_PAGE_BYTES, between))
            for index in range(_NUM_PAGES if between else 0)
        ]
        edges = [(0, _EDGE_BYTES), (max(0, size - _EDGE_BYTES), _EDGE_BYTES)]
        for start, length in [*edges, *pages]:
            file.seek(start)
            yield file.read(length)
