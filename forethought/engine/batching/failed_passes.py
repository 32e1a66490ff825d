"""Whose fault a pass is that failed, and when it is the replica's for good.

A pass in which other work was done well is not at fault: what failed there stays with the request
that wanted it. Where nothing was done well, the replica counts as faulty, and callers may go to
another one. Whether it can still compute at all, a trial tells, over a token that nobody asked for.
"""

from collections.abc import Callable, Sequence
from typing import Any

from forethought.engine.batching.scheduler import Job
from forethought.errors import ForethoughtError, ReplicaFailedError

Outcome = tuple[Job, Any, Exception | None]
"""A job with its result, or what went wrong, or neither if it wants another pass."""

MAX_BROKEN = 3
"""Passes that fail in a row, while trials fail too."""
MAX_UNEXPLAINED = 16
"""Passes that fail in a row, while trials do not: it may be their requests' fault."""


class FailedPasses:
    """Counts them. For the engine's thread.

    Args:
        can_compute: makes a trial.
    """

    def __init__(self, can_compute: Callable[[], bool]) -> None:
        self._can_compute = can_compute
        self._num_in_a_row = 0

    def judge(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """The outcomes of a pass, with errors that say whose fault they are; raises as `failed`."""
        errors = [error for _, _, error in outcomes if error is not None]
        if not outcomes:
            return outcomes  # parts of prompts: what they are good for will be seen
        if len(errors) < len(outcomes):
            self._num_in_a_row = 0
            return outcomes
        judged = [
            (job, None, of_replica(error))
            for (job, _, _), error in zip(outcomes, errors, strict=True)
        ]
        if any(is_by_replica(error) for _, _, error in judged):
            self.failed(errors[0])
        return judged

    def failed(self, error: Exception) -> None:
        """A pass has failed.

        Raises:
            ReplicaFailedError: it was one too many.
        """
        self._num_in_a_row += 1
        limit = MAX_UNEXPLAINED if self._can_compute() else MAX_BROKEN
        if self._num_in_a_row >= limit:
            raise ReplicaFailedError(f"{self._num_in_a_row} passes in a row failed") from error


def of_replica(error: Exception) -> Exception:
    """What a caller is told where a pass failed for all; an error that names its cause stays."""
    if isinstance(error, ForethoughtError) and error.code != "INTERNAL":
        return error
    told = ReplicaFailedError(f"a pass of this replica failed ({type(error).__name__})")
    told.__cause__ = error
    return told


def is_by_replica(error: Exception | None) -> bool:
    """Whether another replica may do better."""
    return isinstance(error, ReplicaFailedError)
