"""No thread and no long-lived task ends unnoticed.

A task that can begin again does: `keep_running`. One that runs once, and that nobody awaits, is
logged by its name when it fails: `start`. What a process cannot serve without, and what cannot
begin again, has a `Failure`, which the server listens to: health turns NOT_SERVING, and the process
ends with a code other than 0 (`rpc/server.py`).
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import structlog

_log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0
"""Before a task begins again: doubles with each failure. A run that lasts longer than the longest
pause counts as a success."""


NOBODYS_TO_ANSWER = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""Exceptions that end a task because somebody wants it to. All others are failures, also those that
are no `Exception`: a panic of a library in Rust is none."""


class Failure:
    """Why a part has ended that a process cannot serve without. For any thread.

    Args:
        part: its name in the log.
    """

    def __init__(self, part: str) -> None:
        self.part = part
        self.error: BaseException | None = None
        """None while the part works."""
        self._lock = threading.Lock()
        self._listeners: list[Callable[[Failure], None]] = []

    def listen(self, listener: Callable[["Failure"], None]) -> None:
        """Has `listener` called once, by the thread that fails; at once if it has failed."""
        with self._lock:
            has_failed = self.error is not None
            self._listeners.append(listener)
        if has_failed:
            listener(self)

    def happened(self, error: BaseException) -> None:
        """The part has ended. Only the first call counts."""
        with self._lock:
            if self.error is not None:
                return
            self.error = error
            listeners = list(self._listeners)
        for listener in listeners:
            listener(self)
        # Last, and at its own risk: there may be no memory left to say it.
        with suppress(BaseException):
            _log.critical("part_failed", part=self.part, exc_info=error)


def keep_running(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
    """Runs `work` in a task until it returns or the task is cancelled; again whenever it fails.

    Args:
        name: for the log.
        work: makes the coroutine; may be called again after any failure.
    """
    return asyncio.create_task(_run_again_and_again(name, work), name=name)


async def _run_again_and_again(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop = asyncio.get_running_loop()
    pause_s = FIRST_PAUSE_S
    while True:
        began = loop.time()
        try:
            return await work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # gRPC cancels those who wait for a call that ends with its channel: no wish of ours.
            if task is None or task.cancelling():
                raise
            _log.warning("task_failed", task=name, why="cancelled from below")
        except NOBODYS_TO_ANSWER:
            raise
        except BaseException:  # noqa: BLE001 - whatever it is, the task begins again
            _log.exception("task_failed", task=name)
        if loop.time() - began > MAX_PAUSE_S:
            pause_s = FIRST_PAUSE_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_PAUSE_S)


def start(name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Runs `work` once, in a task that nobody needs to await.

    Args:
        name: for the log.
        work: that may fail only by a fault in it.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_log_failure)
    return task


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("task_failed", task=task.get_name(), exc_info=error)


def log_threads_that_fail() -> None:
    """Has the log say it when a thread ends by an exception, by the thread's name."""
    threading.excepthook = _log_thread


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    name = arguments.thread.name if arguments.thread else ""
    _log.error("thread_failed", thread=name, exc_info=arguments.exc_value)
