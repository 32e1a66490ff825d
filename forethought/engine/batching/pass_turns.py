"""Tiers that share the cores of a machine compute one at a time.

Two passes at once on the same cores each take far more than twice as long: in every one of some
hundred operations a thread waits for another that has no core at that moment. A prompt that takes
40 ms took 450 beside a draft tier that computed the same prompt. One after the other, both are done
when the second would have been done at best.
"""

import fcntl
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from weakref import finalize

import structlog

from forethought.errors import InvalidArgumentError

_log = structlog.get_logger(__name__)

PATIENCE_S = 0.25
"""After which a pass runs beside another: that one may be long, or its process stopped."""
_POLL_S = 0.0001


class PassTurns(AbstractContextManager[None]):
    """Held during a pass, by one process at a time of those that are given the same file.

    A process that dies lets go. One that holds it for too long is waited for once, and no more
    until the file was seen free. Not a `FileLock` as in `taking_turns.py`: that one opens its file
    anew each time, which takes 0.1 ms where this takes a thousandth, and a small draft's pass 0.4.

    Args:
        path: of the file, made if there is none.
        patience_s: how long to wait.

    Raises:
        InvalidArgumentError: there can be no such file.
    """

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = f"{path} cannot be opened: {error.strerror}"
            raise InvalidArgumentError({"--shared-cores": why}) from error
        finalize(self, os.close, self._file)
        self._patience_s = patience_s
        self._is_held = False
        self._is_worth_waiting = True

    def __enter__(self) -> None:
        self._is_held = self._take() or (self._is_worth_waiting and self._wait())
        if self._is_worth_waiting and not self._is_held:
            _log.warning("turn_not_waited_for", why="another tier has the cores for too long")
        self._is_worth_waiting = self._is_held

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def _take(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self) -> bool:
        """Asks again and again: the kernel's own waiting knows no time limit."""
        deadline = time.monotonic() + self._patience_s
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            if self._take():
                return True
        return False
