"""The thread's half of an engine: what computes when, and what becomes of passes that fail.

The thread takes what has arrived, lets the scheduler put together a pass, runs it, and hands the
logits of all finished jobs to the tier in one go. The model, the pool and the sequences are touched
by this half alone and need no locks.

A pass that fails is repeated for each of its sessions alone: one of them may be at fault, and the
others shall not suffer for it. Where all fail, the replica is at fault as far as anyone can tell,
and its callers may ask another one. When passes fail again and again, when the books of the cache
contradict each other, or when anything else goes wrong that belongs to no session, `run` raises.
"""

from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Generic

import structlog

from forethought.engine.batching.counts import EngineCounts, PassRecord
from forethought.engine.batching.engine_thread import EngineThread
from forethought.engine.batching.failed_passes import (
    FailedPasses,
    Outcome,
    is_by_replica,
    of_replica,
)
from forethought.engine.batching.following import ResultT, WorkT
from forethought.engine.batching.model_runner import ModelRunner
from forethought.engine.batching.results import Results
from forethought.engine.batching.scheduler import Job, ScheduledPart, Scheduler
from forethought.engine.cache.sequence import CachedSequence
from forethought.errors import DrainingError

_log = structlog.get_logger(__name__)

_BLOCKED_S = 0.05  # between two looks whether there is room
_IDLE_S = 2.0  # without work, before the books are checked


class Passes(Generic[WorkT, ResultT]):
    """All is for the engine's thread alone, unless it says that any may ask.

    Args:
        thread: in which this runs.
        runner: of passes.
        scheduler: of the sessions.
        results: where callers hear of them.
        counts: to keep.
    """

    def __init__(
        self,
        thread: EngineThread,
        runner: ModelRunner[WorkT, ResultT],
        scheduler: Scheduler,
        results: Results[WorkT, ResultT],
        counts: EngineCounts,
    ) -> None:
        self._thread = thread
        self._runner = runner
        self._scheduler = scheduler
        self._results = results
        self._counts = counts
        self._failed_passes = FailedPasses(runner.can_compute)
        self._num_running = 0  # jobs in the pass that is under way
        self.observe: Callable[[int, float], None] | None = None
        """Told of the tokens and seconds of each pass that has ended when it returns."""

    @property
    def sequences(self) -> Sequence[CachedSequence]:
        """Of all sessions."""
        return list(self._scheduler.sequences)

    @property
    def num_waiting(self) -> int:
        """Jobs that somebody waits for and that no pass computes. Any thread may ask."""
        return self._scheduler.num_waiting - self._num_running

    def run(self) -> None:
        """Computes until the thread is closed.

        Raises:
            ReplicaFailedError: too many passes have failed.
            IntegrityError: the books of the KV cache contradict each other.
        """
        self._runner.use_this_thread()
        thread, scheduler = self._thread, self._scheduler
        is_checked = True  # nothing has changed since the books were found right
        while not thread.is_closed:
            wait_s = 0 if scheduler.num_jobs else None if is_checked else _IDLE_S
            is_idle = not self._take_messages(wait_s) and wait_s != 0
            while (linger_s := scheduler.linger_s()) and not thread.is_closed:
                self._take_messages(linger_s)
            scheduled = scheduler.next_pass()
            if scheduled:
                self._compute(scheduled)
                is_checked = False
            elif scheduler.num_jobs:
                self._take_messages(_BLOCKED_S)
            elif is_idle:
                scheduler.check()
                is_checked = True
        self._results.tell_kept()
        self._take_messages(0)

    def _take_messages(self, timeout_s: float | None) -> bool:
        """Whether there were any."""
        if timeout_s != 0:
            self._results.tell_kept()
        return self._thread.take_messages(timeout_s)

    # What is asked for.

    def take_in(self, sequence: CachedSequence, *, waits: bool) -> None:
        """A session begins; unless it waits for something, its tokens are computed."""
        self._scheduler.open(sequence)
        if not waits:
            self.compute_prompt(sequence)

    def compute_prompt(self, sequence: CachedSequence) -> None:
        """Computes the tokens of a session ahead of its first work."""
        self._scheduler.add(Job(None, sequence, perf_counter_ns()))

    def begin(self, job: Job) -> None:
        """Takes a job of a session in."""
        try:
            result = self._scheduler.add(job)
        except Exception as error:  # noqa: BLE001 - told to the caller
            self._results.tell([(job, None, error)])
            return
        if result is not None:
            job.started_ns = perf_counter_ns()
            self._scheduler.finish(job)
            self._results.tell([(job, result, None)])

    def give_up(self, job: Job) -> None:
        """Nobody wants a job any more."""
        self._scheduler.finish(job)

    def remove(self, sequence: CachedSequence) -> None:
        """Ends a session, and frees its memory."""
        job = self._scheduler.remove(sequence)
        if job is not None:
            self._results.tell([(job, None, DrainingError("the session has ended"))])

    # Passes.

    def _compute(self, scheduled: list[ScheduledPart]) -> None:
        """One pass, and what follows from it."""
        self._thread.heartbeat.beat()
        self._num_running = len(scheduled)
        try:
            logits, started_ns = self._runner.forward(scheduled, self._results.tell_kept)
        except Exception as error:  # noqa: BLE001 - told to the callers
            _log.exception("pass_failed", num_sequences=len(scheduled))
            self._mend(scheduled, error)
            return
        finally:
            self._num_running = 0
            self._results.tell_kept()
        for each in scheduled:
            each.job.sequence.computed(len(each.part.token_ids))
        done = [each.job for each in scheduled if each.part.num_logits]
        modelled_ns = perf_counter_ns()
        outcomes = self._failed_passes.judge(self._runner.outcomes(done, logits))
        ended_ns = perf_counter_ns()
        num_tokens = sum(len(each.part.token_ids) for each in scheduled)
        self._count(
            scheduled,
            PassRecord(
                started_ns,
                ended_ns - started_ns,
                ended_ns - modelled_ns,
                len(scheduled),
                num_tokens,
            ),
        )
        self._settle(outcomes)

    def _count(self, scheduled: list[ScheduledPart], record: PassRecord) -> None:
        for each in scheduled:
            each.job.passed(record)
        self._scheduler.pass_took(record.seconds)
        self._counts.add(record)
        if self.observe is not None and self._runner.is_on_cpu:
            self.observe(record.num_tokens, record.seconds)

    def _settle(self, outcomes: Sequence[Outcome]) -> None:
        """Ends the jobs that are done, and begins what follows from them."""
        settled = [each for each in outcomes if each[1] is not None or each[2] is not None]
        for job, result, fault in settled:
            self._scheduler.finish(job)
            if is_by_replica(fault):
                job.sequence.withdraw()
            if job.is_asked_for and result is not None:
                # Its caller hears of it with the result.
                job.following = self._results.following(job, result)
                if job.following is not None:
                    self.begin(job.following)
        self._results.keep(settled)

    def _mend(self, scheduled: list[ScheduledPart], error: Exception) -> None:
        """Computes those of a pass that failed one by one, and gives up on one that is alone."""
        if len(scheduled) > 1:
            for each in scheduled:
                self._compute([each])
            return
        self._counts.num_failed_passes += 1
        job = scheduled[0].job
        # Some layers may be filled and others not.
        job.sequence.release()
        self._scheduler.finish(job)
        self._results.tell([(job, None, of_replica(error))])
        self._failed_passes.failed(error)
