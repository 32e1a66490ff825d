"""Where callers hear what became of their jobs: the one place that does anything to futures.

What the event loop does with results needs the interpreter, as the next pass does until it has
begun. So those of a pass are kept until the next one has begun, or until there is none, and told
in one visit to the event loop.
"""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Generic

from forethought.engine.batching.engine_thread import EngineThread
from forethought.engine.batching.failed_passes import Outcome
from forethought.engine.batching.following import Follow, FollowingWork, ResultT, WorkT
from forethought.engine.batching.scheduler import Job
from forethought.engine.cache.sequence import CachedSequence


class Results(Generic[WorkT, ResultT]):
    """Of an engine's jobs.

    Args:
        thread: of the engine.
        follow: what is sure enough to be asked for next; see `following.py`.
        begin: in the event loop, has a job begun.
    """

    def __init__(
        self,
        thread: EngineThread,
        follow: Follow[WorkT, ResultT],
        begin: Callable[[Job], None],
    ) -> None:
        self._thread = thread
        self._begin = begin
        self._following: FollowingWork[WorkT, ResultT] = FollowingWork(follow)
        self._asked: set[Job] = set()  # that somebody waits for, in the event loop's hands
        self._kept: Sequence[Outcome] = ()  # in the hands of the engine's thread

    def new_job(self, work: WorkT, arrived_ns: int, *, is_asked_for: bool = True) -> Job:
        """One that somebody waits for, or may. On either side."""
        return Job(work, work.sequence, arrived_ns, self._thread.new_future(), is_asked_for)

    def following(self, job: Job, result: ResultT) -> Job | None:
        """The job that is sure enough to follow from one that is done. On either side."""
        work = self._following.after(job, result)
        if work is None:
            return None
        return self.new_job(work, perf_counter_ns(), is_asked_for=False)

    # In the event loop.

    def begun_already(self, work: WorkT) -> Job | None:
        """The job that does this work, if it was begun before it was asked for."""
        job = self._following.take(work)
        if job is not None and job.future.done() and not job.future.exception():
            self._follow_late(job, job.future.result())
        return job

    async def wait(self, job: Job) -> ResultT:
        """The result of a job, or the error that it ended with."""
        self._asked.add(job)
        try:
            result: ResultT = await job.future
            return result
        finally:
            self._asked.discard(job)

    def fail_all(self, error: Exception) -> None:
        """Tells everybody who waits that there is nothing to wait for."""
        for job in self._asked:
            if not job.future.done():
                job.future.set_exception(error)

    def _follow_late(self, job: Job, result: ResultT) -> None:
        """Begins what follows from a job that was done before it was asked for."""
        following = self.following(job, result)
        if following is not None:
            self._begin(following)
            self._following.expect(following)

    def forget(self, sequence: CachedSequence) -> None:
        """The session has ended."""
        self._following.forget(sequence)

    def _resolve(self, outcomes: Sequence[Outcome]) -> None:
        """Hands the outcomes out."""
        for job, result, error in outcomes:
            if job.following is not None:
                self._following.expect(job.following)
            if job.future.done():
                continue
            if error is not None:
                job.future.set_exception(error)
                continue
            job.future.set_result(result)
            if job.is_asked_for and not job.is_followed:
                self._follow_late(job, result)

    # In the engine's thread.

    def keep(self, outcomes: Sequence[Outcome]) -> None:
        """Outcomes of a pass, to be told by `tell_kept`."""
        self._kept = outcomes

    def tell_kept(self) -> None:
        """Tells what was kept. The next pass has begun, or there is none."""
        kept, self._kept = self._kept, ()
        self.tell(kept)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Tells the callers at once."""
        waiting = [each for each in outcomes if each[0].future is not None]
        if waiting:
            self._thread.call_loop(lambda: self._resolve(waiting))
