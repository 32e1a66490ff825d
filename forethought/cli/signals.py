"""Signals that ask this process to stop, as the cancellation of a task."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Which signal came first; None as long as none came."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that the signal ended."""
        return 128 + (self.signal or 0)


@contextlib.contextmanager
def cancel_on_stop_signals() -> Iterator[StopRequest]:
    """Cancels the task that enters whenever a stop signal comes: each of them, so that a second
    Ctrl-C interrupts the orderly stop that the first one began."""
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("needs a running task")
    loop = asyncio.get_running_loop()
    request = StopRequest()

    def on_signal(number: signal.Signals) -> None:
        request.signal = request.signal or number
        task.cancel()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield request
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)


@contextlib.contextmanager
def exit_on_stop_signals() -> Iterator[None]:
    """As `cancel_on_stop_signals`; once the task has stopped, the process ends with the exit code
    of the signal."""
    with cancel_on_stop_signals() as stop:
        try:
            yield
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            sys.exit(stop.exit_code)
