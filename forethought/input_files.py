"""Files that a user names, read up to a bound: a device or the wrong file does not fill memory."""

import errno
from pathlib import Path
from typing import BinaryIO

MAX_INPUT_BYTES = 64 * 2**20
"""Of a file; four times the largest message."""


def read_input(path: Path) -> bytes:
    """What a file holds.

    Raises:
        OSError: it cannot be read, or is larger than MAX_INPUT_BYTES (EFBIG).
    """
    with path.open("rb") as file:
        return read_at_most(file, MAX_INPUT_BYTES)


def read_at_most(stream: BinaryIO, max_bytes: int) -> bytes:
    """What a stream holds up to its end.

    Raises:
        OSError: it cannot be read, or holds more (EFBIG).
    """
    content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"holds more than {max_bytes:,} bytes")
    return content
