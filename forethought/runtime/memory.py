"""Memory that large work leaves behind, given back to the system.

glibc keeps what was freed for later use, in an arena for each thread, and after a large text that
is many times the text.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def give_back_memory() -> None:
    """Gives back what this process has freed; nothing where the C library cannot. Takes some
    milliseconds, during which other threads of Python run."""
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None  # not glibc
    return trim
