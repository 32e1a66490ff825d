"""Tiers of one deployment that share cores load and measure themselves one after the other.

A pass that is measured while another tier loads its weights on the same cores takes ten times as
long as it will take. One after the other takes no more time in all, where the processor is the
limit. Other deployments of the machine are not waited for: what was measured beside their work is
corrected by what passes take (`orchestrator/policy/clocks.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
from filelock import FileLock, Timeout

_log = structlog.get_logger(__name__)

PATIENCE_S = 60.0
"""After which a tier starts beside another one."""


@contextmanager
def taking_turns(path: Path, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Waits until no other process is inside, or `patience_s` are over; the log says that it waits.

    A process that dies inside leaves. Where no file can be locked, nobody waits.

    Args:
        path: of the file that is locked, of this deployment alone.
        patience_s: how long to wait.
    """
    lock = FileLock(path, timeout=patience_s, mode=0o600)
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("waiting_for_turn", why="the other tier on these cores is starting")
            lock.acquire()
    except Timeout:
        _log.warning("turn_not_waited_for", why="another tier has been starting for too long")
    except OSError as error:
        _log.debug("no_turns", why=str(error))
    try:
        yield
    finally:
        lock.release()
