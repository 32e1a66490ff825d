"""Standard error that nobody reads holds nobody up.

A pipe that nobody empties takes 64 KiB, and then whoever writes to it waits: the event loop, and
with it health checks. So all that is logged goes through a queue to a thread of its own. When the
queue is full, lines are dropped and counted; the log says how many when it flows again.
"""

import atexit
import io
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TextIO

MAX_QUEUED = 2000
"""Lines that wait to be written."""
MAX_CHARS = 16384
"""Of one write; the rest is cut off."""
_PAUSE_S = 0.01
"""Of the thread when all is written: lines that come meanwhile do not wake it, which costs as
much as a line does."""
_STANDARD_ERROR = 2
_STALLED_S = 1.0
"""At the end of a process: nobody reads any more if nothing is taken for so long."""
_LAST_WORDS_S = 5.0
"""For somebody who reads slowly."""


class DroppingOutput(io.TextIOBase):
    """A text stream to a file descriptor. Writing never blocks. For any thread.

    Args:
        fd: written to by this stream alone, in UTF-8.
        report_dropped: told of how many lines were dropped, when it flows again.
    """

    def __init__(self, fd: int, report_dropped: Callable[[int], None]) -> None:
        super().__init__()
        self._fd = fd
        self._report_dropped = report_dropped
        # One whose `put` may be interrupted by another: finalisers log too.
        self._queue: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._count_lock = threading.RLock()  # for the same reason
        self._num_dropped = 0
        self._num_written = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        # The thread itself only says what was dropped.
        if self._queue.qsize() < MAX_QUEUED or threading.current_thread() is self._thread:
            is_long = len(text) > MAX_CHARS
            self._queue.put(f"{text[:MAX_CHARS]}…\n" if is_long else text)
        else:
            with self._count_lock:
                self._num_dropped += text.count("\n")
        return len(text)

    def flush(self) -> None:
        """Does not wait; see `drain`."""

    def drain(self) -> None:
        """Returns when all is written, or nobody reads it."""
        is_written = threading.Event()
        self._queue.put(is_written)
        give_up = time.monotonic() + _LAST_WORDS_S
        last = -1
        while last != self._num_written and time.monotonic() < give_up:
            last = self._num_written
            if is_written.wait(_STALLED_S):
                return

    def _run(self) -> None:
        while True:
            if self._queue.empty():
                time.sleep(_PAUSE_S)
            text = self._queue.get()
            if isinstance(text, threading.Event):
                text.set()
                continue
            with suppress(OSError):  # nobody is there any more
                self._write(text.encode(errors="backslashreplace"))
            if self._num_dropped and self._queue.qsize() < MAX_QUEUED // 2:
                with self._count_lock:
                    num_dropped, self._num_dropped = self._num_dropped, 0
                self._report_dropped(num_dropped)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:  # somebody else who has it made it so
                select.select((), (self._fd,), ())
                continue
            data = data[written:]
            self._num_written += written


def standard_error(report_dropped: Callable[[int], None]) -> "TextIO | DroppingOutput":
    """Standard error as a stream that never blocks, in place of `sys.stderr` from now on.

    What stands in for it already, as in tests, stays. Where the process was started without one,
    nothing is written.
    """
    _open_missing()
    if isinstance(sys.stderr, DroppingOutput):
        return sys.stderr
    with suppress(AttributeError, OSError, ValueError):  # it may be no file
        if sys.stderr.fileno() == sys.__stderr__.fileno():  # type: ignore[union-attr]
            sys.stderr = DroppingOutput(sys.stderr.fileno(), report_dropped)
            # Not when logging ends: its locks are held then, and whoever reports waits for them.
            atexit.register(write_out)
    return sys.stderr


def write_out() -> None:
    """Returns when all that was logged is written, or nobody reads it."""
    if isinstance(sys.stderr, DroppingOutput):
        sys.stderr.drain()


def _open_missing() -> None:
    """Opens what a process was started without. The next socket would take its number, and get
    what libraries write to standard error."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= _STANDARD_ERROR:
        pass
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
