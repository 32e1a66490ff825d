"""Work that is begun before it is asked for, since it follows from what has just been computed.

The engine begins it in the very next pass, and tells the caller, who has yet to hear of the result,
of both at once. At most one piece of a session is computed that nobody has asked for: what follows
from that is only begun when somebody has. Whoever asks for something else gets that.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import structlog

from forethought.engine.batching.scheduler import Job, Work
from forethought.engine.cache.sequence import CachedSequence

_log = structlog.get_logger(__name__)

WorkT = TypeVar("WorkT", bound=Work)
ResultT = TypeVar("ResultT")

Follow = Callable[[WorkT, ResultT], WorkT | None]
"""The work that will be asked for next, where that follows from a piece of work and its result.
Called in any thread."""


def nothing_follows(_work: Any, _result: Any) -> None:
    """For tiers that never know what will be asked for."""


class FollowingWork(Generic[WorkT, ResultT]):
    """What is begun and not asked for yet, by session. For the event loop, but for `after`.

    Args:
        follow: the tier's part.
    """

    def __init__(self, follow: Follow[WorkT, ResultT]) -> None:
        self._follow = follow
        self._begun: dict[CachedSequence, Job] = {}

    def after(self, job: Job, result: ResultT) -> WorkT | None:
        """What follows from a job that is done and was asked for. For any thread."""
        job.is_followed = True
        work: Any = job.work
        try:
            return self._follow(work, result)
        except Exception:  # noqa: BLE001 - whoever asks next has it computed then
            _log.exception("following_failed")
            return None

    def expect(self, begun: Job) -> None:
        """It may be asked for."""
        # If it is not, nobody wants to know how it failed.
        begun.future.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._begun[begun.sequence] = begun

    def take(self, work: WorkT) -> Job | None:
        """The job that does this work already. One that does other work is forgotten: in the
        engine the session's next job takes its place."""
        job = self._begun.pop(work.sequence, None)
        if job is None or job.work != work:
            return None
        job.work = work  # the same, but for what it says of the work after it
        job.is_asked_for = True
        return job

    def forget(self, sequence: CachedSequence) -> None:
        """The session has ended."""
        self._begun.pop(sequence, None)
