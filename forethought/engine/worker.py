"""One thread that computes, so that the event loop never does.

Jobs run one after the other in the order they came: a model and the caches of its sessions are
touched by this thread alone and need no locks. Whatever else touches them, such as freeing a
session's cache while its last job may still run, is a job too.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, TypeVar

from forethought.errors import DrainingError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobTimings:
    """Where the time of a job went, nanoseconds."""

    queue_ns: int  # until the engine started on it
    run_ns: int  # in the engine


class EngineWorker:
    """The engine's thread and its queue."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._jobs: set[Future[Any]] = set()  # not done yet
        self._is_closed = False

    @property
    def num_queued_jobs(self) -> int:
        """Jobs that wait for the engine; the one it works on does not."""
        return sum(not (job.running() or job.done()) for job in self._jobs)

    async def run(self, job: Callable[[], T]) -> tuple[T, JobTimings]:
        """Waits for `job` to be run by the engine's thread.

        A job whose caller is cancelled before it starts never runs. One that has started runs to
        its end, and nobody learns its result.

        Raises:
            DrainingError: the worker is closed, or was before the job started.
            Exception: whatever the job raises.
        """
        if self._is_closed:
            raise DrainingError("the engine is closed")
        future = self._executor.submit(_timed, job, perf_counter_ns())
        self._jobs.add(future)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if future.cancelled() and caller is not None and not caller.cancelling():
                raise DrainingError("the engine closed before the job started") from None
            raise
        finally:
            self._jobs.discard(future)

    async def close(self) -> None:
        """Refuses new jobs and those that wait, and returns when the running one has ended."""
        self._is_closed = True
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)


def _timed(job: Callable[[], T], queued_ns: int) -> tuple[T, JobTimings]:
    started_ns = perf_counter_ns()
    result = job()
    return result, JobTimings(started_ns - queued_ns, perf_counter_ns() - started_ns)
