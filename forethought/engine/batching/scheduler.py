"""Which sessions compute what in the next pass.

Rounds come first: sessions that are one short pass away from their answer. What room is left in the
pass goes to prompts, in chunks; while sessions are in rounds, only so much that they keep their
pace. Within each kind whoever was served longest ago comes first.

A pass over eight sessions takes little longer than one over four, so sessions should not fall into
two groups that take turns: one is computed while the other, just answered, is about to ask again.
Before a pass the engine therefore waits for those that have just been answered, as long as they
usually take to come back, but never for more than a fraction of a pass.

Memory is a pool of blocks. A session that needs a block when none is left takes it from the
youngest session that is younger than itself, which loses all of its own and computes them again
when its turn comes: the oldest always gets on, so all of them end, and none fails. A session that
has no blocks yet waits until there is room for all that it has committed. One that has been idle
for a while, its client reading slowly perhaps, gives way to any that waits.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from forethought.engine.batching.counts import EngineCounts, PassRecord
from forethought.engine.cache.block_pool import BlockPool
from forethought.engine.cache.sequence import CachedSequence, num_blocks_for
from forethought.engine.model.packed import SequencePart

_ROUND_TOKENS = 16
"""A session is in a round, and not in its prompt, if it has at most so many tokens to compute
besides those that are scored."""


_AHEAD_TOKENS = 48
"""Work that nobody waits for is given up if it has more tokens to compute: its blocks are lost."""

_SMOOTHING = 0.1  # weight of the latest of many measurements
_MIN_RETURN_S = 0.01  # that any session is given to ask again


class Work(Protocol):
    """What a session wants to have computed."""

    @property
    def sequence(self) -> CachedSequence:
        """Whose tokens to compute, to the end of its log."""
        ...

    @property
    def num_logits(self) -> int:
        """Positions to score, counted from the end of the log."""
        ...

    @property
    def is_ahead(self) -> bool:
        """Whether nobody waits for it yet, so that it may run only when there is nothing else."""
        ...

    def begin(self) -> Any:
        """Puts what is to be computed into the log. Called once, in the engine's thread.

        Returns:
            The result, if there is nothing left to compute; else None.
        """
        ...


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """Limits of a pass."""

    max_tokens: int = 512
    """Tokens in a pass."""
    max_prefill_beside_rounds: int = 64
    """Tokens of prompts in a pass that answers rounds too."""
    idle_grace_s: float = 1.0
    """A session without work keeps its blocks so long, when others wait for them."""
    max_linger: float = 0.25
    """Longest wait for sessions that are about to ask again, as a share of the last pass."""


@dataclass(eq=False, slots=True)
class Job:
    """A piece of work on its way through the engine."""

    work: Work | None  # None computes the committed tokens ahead of the first round
    sequence: CachedSequence
    arrived_ns: int
    future: Any = None  # of the caller
    is_asked_for: bool = True  # False: begun because it follows from what came before
    following: "Job | None" = None  # begun because of this one's result
    is_followed: bool = False  # whether it is settled what follows from it
    started_ns: int = 0  # when its first pass began; 0 before
    forward_ns: int = 0  # in passes so far
    finish_ns: int = 0  # of that after the model's
    batch_size: int = 0  # most sequences in one of them
    num_batch_tokens: int = 0  # of all sequences in that one

    @property
    def num_logits(self) -> int:
        return self.work.num_logits if self.work else 0

    @property
    def is_ahead(self) -> bool:
        return self.work is not None and self.work.is_ahead

    @property
    def num_uncomputed(self) -> int:
        """Tokens to compute before it is done; the last one of a prompt is left to the round."""
        return self.sequence.num_uncomputed - (self.work is None)

    def passed(self, record: PassRecord) -> None:
        """It took part in a pass."""
        self.started_ns = self.started_ns or record.started_ns
        self.forward_ns += record.total_ns
        self.finish_ns += record.finish_ns
        if record.batch_size >= self.batch_size:
            self.batch_size = record.batch_size
            self.num_batch_tokens = record.num_tokens


@dataclass(frozen=True, slots=True)
class ScheduledPart:
    """A job's part in a pass."""

    job: Job
    part: SequencePart


@dataclass(eq=False, slots=True)
class _Session:
    """What the scheduler knows of a sequence."""

    age: int  # the larger the younger
    job: Job | None = None
    served: int = 0  # number of the last pass it took part in
    idle_since: float = field(default_factory=time.monotonic)
    answered: float = -math.inf  # when its last round ended

    @property
    def is_waiting(self) -> bool:
        """Whether somebody waits for its job."""
        return self.job is not None and not self.job.is_ahead


class Scheduler:
    """Holds all sessions and their jobs. Touched by the engine's thread alone."""

    def __init__(self, pool: BlockPool, options: SchedulerOptions, counts: EngineCounts) -> None:
        self._pool = pool
        self._counts = counts
        self._options = options
        self._sessions: dict[CachedSequence, _Session] = {}
        self._ages = count()
        self._num_passes = 0
        self._pass_ended = 0.0
        self._pass_s = 0.0  # how long the last pass took
        self._return_s = 0.0  # how long sessions take from an answer to their next round, roughly

    @property
    def sequences(self) -> Iterable[CachedSequence]:
        """All that may own blocks."""
        return self._sessions.keys()

    @property
    def num_jobs(self) -> int:
        """Jobs that are not done. Any thread may ask: it counts over a copy."""
        return sum(session.job is not None for session in list(self._sessions.values()))

    @property
    def num_waiting(self) -> int:
        """Those that somebody waits for. Any thread may ask."""
        return sum(session.is_waiting for session in list(self._sessions.values()))

    def open(self, sequence: CachedSequence) -> None:
        """Takes a session in."""
        self._sessions[sequence] = _Session(next(self._ages))

    def add(self, job: Job) -> Any:
        """Takes a job of an open session in. It replaces any earlier one of that session.

        Returns:
            What beginning it does: its result, if there is nothing left to compute.
        """
        if job.is_ahead and job.sequence not in self._sessions:
            self.open(job.sequence)
        session = self._sessions[job.sequence]
        result = None
        if job.work is not None:
            result = job.work.begin()
        if job.work is not None and job.is_asked_for and not job.is_ahead:
            gap = min(time.monotonic() - session.answered, self._pass_s)
            self._return_s += _SMOOTHING * (gap - self._return_s)
        session.job = job
        return result

    def finish(self, job: Job) -> None:
        """A job is done, or nobody wants it any more."""
        session = self._sessions.get(job.sequence)
        if session is not None and session.job is job:
            session.job = None
            if job.is_ahead:
                return
            session.idle_since = time.monotonic()
            if job.work is not None:
                session.answered = session.idle_since

    def remove(self, sequence: CachedSequence) -> Job | None:
        """Forgets a session and frees its blocks; returns the job that it still had."""
        session = self._sessions.pop(sequence, None)
        sequence.release()
        return session.job if session else None

    def check(self) -> None:
        """Whether the books of the KV cache agree.

        Raises:
            IntegrityError: they do not.
        """
        self._pool.check(sequence.block_ids for sequence in self._sessions)

    def pass_took(self, seconds: float) -> None:
        """A pass has ended, and with it the rounds that it answers."""
        self._pass_s = seconds
        self._pass_ended = time.monotonic()

    def linger_s(self) -> float:
        """How long to wait for more rounds before the next pass; 0 where none is to be expected,
        and where nobody else waits."""
        patience = min(2 * self._return_s, self._options.max_linger * self._pass_s)
        left = self._pass_ended + patience - time.monotonic()
        if left <= 0 or not self.num_waiting:
            return 0.0
        return left if any(map(self._is_returning, self._sessions.values())) else 0.0

    def next_pass(self) -> list[ScheduledPart]:
        """What to compute now; empty if there is nothing, or no room for it yet."""
        waiting = [session for session in self._sessions.values() if session.is_waiting]
        waiting.sort(key=lambda session: (session.served, session.age))
        rounds = [session for session in waiting if self._is_round(session.job)]
        prompts = [session for session in waiting if not self._is_round(session.job)]
        self._num_passes += 1
        scheduled: list[ScheduledPart] = []
        room = self._options.max_tokens
        for session in rounds:
            room -= self._schedule(session, room, scheduled)
        if scheduled or any(map(self._is_returning, self._sessions.values())):
            room = min(room, self._options.max_prefill_beside_rounds)
        for session in prompts:
            room -= self._schedule(session, room, scheduled)
        return scheduled or self._ahead_parts()

    def _ahead_parts(self) -> list[ScheduledPart]:
        """What nobody waits for yet. It takes no memory from anybody."""
        scheduled: list[ScheduledPart] = []
        for session in self._sessions.values():
            job = session.job
            if job is None or not job.is_ahead:
                continue
            part = None
            if job.num_uncomputed <= _AHEAD_TOKENS:
                part = job.sequence.part(job.num_uncomputed, job.num_logits)
            if part is None:
                self.finish(job)
            else:
                scheduled.append(ScheduledPart(job, part))
        return scheduled

    def _is_returning(self, session: _Session) -> bool:
        """Whether a session is between two rounds, as far as one can tell."""
        since = time.monotonic() - session.answered
        return not session.is_waiting and since < max(2 * self._return_s, _MIN_RETURN_S)

    def _is_round(self, job: Job | None) -> bool:
        return (
            job is not None
            and job.work is not None
            and job.num_uncomputed <= job.num_logits + _ROUND_TOKENS
        )

    def _schedule(self, session: _Session, room: int, scheduled: list[ScheduledPart]) -> int:
        """Adds a turn for a session if it fits; returns its tokens."""
        job = session.job
        if job is None or not (job.sequence.block_ids or self._let_in(session, scheduled)):
            return 0
        left, scored = job.num_uncomputed, job.num_logits
        if not left:
            self.finish(job)
            return 0
        # The scored positions are computed together, in the last of its passes.
        num_tokens = left if left <= room else min(room, left - scored)
        if num_tokens <= 0:
            return 0
        self._make_room(session, job.sequence.num_missing_blocks(num_tokens), scheduled)
        part = job.sequence.part(num_tokens, scored if num_tokens == left else 0)
        if part is None:
            return 0
        session.served = self._num_passes
        scheduled.append(ScheduledPart(job, part))
        return num_tokens

    def _let_in(self, session: _Session, scheduled: list[ScheduledPart]) -> bool:
        """Whether there is room for a whole session that has none; takes what it can reuse."""
        assert session.job is not None
        sequence = session.job.sequence
        sequence.take_prefix()
        num_growing = sum(bool(each.block_ids) for each in self._sessions)
        missing = num_blocks_for(sequence.num_cached_tokens + sequence.num_uncomputed)
        missing -= len(sequence.block_ids)
        # One block for each of the others to grow into, so that it is not thrown out at once.
        is_alone = num_growing <= bool(sequence.block_ids)
        if self._make_room(session, missing + (0 if is_alone else num_growing), scheduled):
            if not session.served:
                self._counts.num_looked_up_tokens += sequence.num_tokens
                self._counts.num_found_tokens += sequence.num_cached_tokens
            return True
        sequence.release()
        return False

    def _make_room(
        self, session: _Session, num_blocks: int, scheduled: list[ScheduledPart]
    ) -> bool:
        """Whether so many blocks are available, once others have given up theirs."""
        if self._pool.num_available >= num_blocks:
            return True
        victims = self._victims(session, scheduled)
        if self._pool.num_available + sum(len(each.block_ids) for each in victims) < num_blocks:
            return False
        for victim in victims:
            victim.release()
            self._counts.num_preemptions += 1
            if self._pool.num_available >= num_blocks:
                return True
        return False

    def _victims(self, session: _Session, scheduled: list[ScheduledPart]) -> list[CachedSequence]:
        """Who may lose its blocks to a session, first those who are idle, then the youngest."""
        in_pass = {each.job.sequence for each in scheduled}
        others = [
            (sequence, other)
            for sequence, other in self._sessions.items()
            if sequence.block_ids and sequence not in in_pass and other is not session
        ]
        long_ago = time.monotonic() - self._options.idle_grace_s
        idle = [
            (sequence, other)
            for sequence, other in others
            if not other.is_waiting and other.idle_since < long_ago
        ]
        younger = [each for each in others if each[1].age > session.age and each not in idle]
        idle.sort(key=lambda each: each[1].idle_since)
        younger.sort(key=lambda each: each[1].age, reverse=True)
        return [sequence for sequence, _ in (*idle, *younger)]
