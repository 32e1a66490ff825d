"""Tiers that start together on one machine load and measure themselves one after the other.

A pass that is measured while another tier loads its weights on the same cores takes ten times as
long as it will take, and all that is decided by it is wrong. One after the other takes no more time
in all, where the processor is the limit.
"""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

PATIENCE_S = 60.0
"""After which a tier starts beside another one."""
_POLL_S = 0.02


@contextmanager
def taking_turns(path: Path | None = None, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Waits until no other process of this user is inside, or `patience_s` are over.

    A process that dies inside leaves. Where no file can be locked, nobody waits.

    Args:
        path: of the file that is locked.
        patience_s: how long to wait.
    """
    path = path or Path(tempfile.gettempdir()) / f"forethought-{os.getuid()}.lock"
    try:
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        _log.debug("no_turns", why=str(error))
        yield
        return
    try:
        _wait(file, time.monotonic() + patience_s)
        yield
    finally:
        os.close(file)  # and with it the lock goes


def _wait(file: int, give_up: float) -> None:
    while time.monotonic() < give_up:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_POLL_S)
    _log.warning("turn_not_waited_for", why="another tier has been starting for too long")
