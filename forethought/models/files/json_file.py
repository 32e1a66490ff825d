"""The small JSON files around a model."""

import json
from pathlib import Path
from typing import Any

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty where there is no file.

    Raises:
        ModelReferenceError: it holds something else.
    """
    try:
        value = json.loads(read_input(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        cause = lfs_pointer(path) or describe(error)
        raise ModelReferenceError(f"Cannot read {path}: {cause}") from error
    if not isinstance(value, dict):
        raise ModelReferenceError(f"Cannot read {path}: it does not hold a JSON object")
    return value


def describe(error: Exception) -> str:
    """Why a file cannot be read, without its name and the system's number."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def lfs_pointer(path: Path) -> str:
    """What to say of a file that only points to the real one; empty for any other file."""
    try:
        with path.open("rb") as file:
            is_pointer = file.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return ""
    return "it is a pointer of Git LFS, not the file: run `git lfs pull`" if is_pointer else ""
