"""Which files hold a model's weights, and whether they are all there and whole.

A download that broke off, a clone without Git LFS or a part that was forgotten looks like a model
until its numbers are read. What is wrong with a file is said here, in the words of its owner.
"""

import json
import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input

_PART = re.compile(
    r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})(?P<suffix>\.gguf|\.safetensors)", re.IGNORECASE
)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Other formats of the same weights, and weights of something else, in the same folder.
_OTHERS = ("consolidated", "adapter_")
_LFS = b"version https://git-lfs.github.com/spec"
_GGUF_MAGIC = b"GGUF"
FileVersion = tuple[int, int, int, int]
"""Device and number of a file, its size in bytes, and when it was written to, nanoseconds."""
_MAX_HEADER_BYTES = 100_000_000  # that the library reads; what is cut there is no JSON


def safetensors_of(folder: Path) -> tuple[Path, ...]:
    """The files that transformers takes, be they there or not; any others if those are not there.

    Raises:
        ModelReferenceError: the index cannot be read.
    """
    if (folder / SINGLE).exists():
        return (folder / SINGLE,)
    index = folder / INDEX
    if index.exists():
        try:
            names = set(json.loads(read_input(index))["weight_map"].values())
            return tuple(folder / name for name in sorted(names))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            wrong = what_is_wrong(index) or f"{index} does not say which tensors are in which file"
            raise ModelReferenceError(wrong) from error
    found = [path for path in folder.glob("*.safetensors") if not path.name.startswith(_OTHERS)]
    return tuple(sorted({part for path in found for part in parts_of(path)}))


def parts_of(path: Path) -> tuple[Path, ...]:
    """All files of the model that this one is a part of by its name, in order, be they there or
    not."""
    match = _PART.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    stem, suffix = match["stem"], match["suffix"]
    names = [f"{stem}-{number:05d}-of-{count:05d}{suffix}" for number in range(1, count + 1)]
    return tuple(path.with_name(name) for name in names)


def ggufs_in(folder: Path) -> list[Path]:
    """The models that are GGUF files there, each by its first part. What encodes images for one of
    them is none."""
    found = [path for path in folder.iterdir() if path.suffix.lower() == ".gguf"]
    return sorted({parts_of(path)[0] for path in found if "mmproj" not in path.name.lower()})


def is_gguf(path: Path) -> bool:
    """By its name or by how it begins: Ollama names files by their digests."""
    return path.suffix.lower() == ".gguf" or _begins(path, len(_GGUF_MAGIC)) == _GGUF_MAGIC


def check_weight_files(paths: Sequence[Path]) -> None:
    """Looks at the names, sizes and beginnings of files that should hold a model together.

    Raises:
        ModelReferenceError: one is missing, a Git LFS pointer, or cut short.
    """
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        links = [path.name for path in paths if path.is_symlink() and not path.exists()]
        of = f": the weights are in {len(paths)} files" if len(paths) > 1 else ""
        why = "; what is there is a link to another place" if links else ""
        raise ModelReferenceError(f"{paths[0].parent} lacks {', '.join(missing)}{of}{why}")
    for path in paths:
        if wrong := what_is_wrong(path):
            raise ModelReferenceError(wrong)


@contextmanager
def unchanged(path: Path, earlier: FileVersion | None = None) -> Iterator[FileVersion]:
    """Reads a file, in which nothing may be replaced or written meanwhile.

    Args:
        path: what is opened inside.
        earlier: what a reading before gave, whose file this must be.

    Raises:
        ModelReferenceError: the file is another one, or was written to.
    """
    version = _version_of(path)
    yield version
    if not version == _version_of(path) == (earlier or version):
        raise ModelReferenceError(f"{path} was replaced while it was read: load the model again")


def _version_of(path: Path) -> FileVersion:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def what_is_wrong(path: Path) -> str | None:
    """With any file of a model, as far as its size and beginning show; None if nothing."""
    if path.is_dir():
        return f"{path} is a folder, not a file"
    start = _begins(path, len(_LFS))
    if start == _LFS:
        return f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
    if path.suffix != ".safetensors":
        return None
    size = path.stat().st_size
    header_len = int.from_bytes(start[:8], "little")
    if len(start) < 8 or 8 + header_len > size:
        return _cut(path, size, 8 + header_len) if start[8:9] in {b"{", b""} else _foreign(path)
    try:
        with path.open("rb") as stream:
            stream.seek(8)
            header = json.loads(stream.read(min(header_len, _MAX_HEADER_BYTES)))
        tensors = [it for name, it in header.items() if name != "__metadata__"]
        ends = [operator.index(it["data_offsets"][1]) for it in tensors]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return _foreign(path)
    end = 8 + header_len + max(ends, default=0)
    return _cut(path, size, end) if end > size else None


def _foreign(path: Path) -> str:
    return f"{path} is not a safetensors file"


def _cut(path: Path, size: int, end: int) -> str:
    return f"{path} is cut short: it has {size} of {end} bytes; download or copy it again"


def _begins(path: Path, num_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(num_bytes)
    except OSError:
        return b""
