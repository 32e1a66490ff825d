"""The batching engine: one thread that computes, and the event loop that asks it to.

The thread takes what has arrived, lets the scheduler put together a pass, runs it, and hands the
logits of all finished jobs to the tier in one go. The model, the pool and the sequences are touched
by this thread alone and need no locks. The event loop sends messages and gets futures.

A pass that fails is repeated for each of its sessions alone: one of them may be at fault, and the
others shall not suffer for it. Where all fail, the replica is at fault as far as anyone can tell,
and its callers may ask another one. When passes fail again and again, when the books of the cache
contradict each other, or when anything else goes wrong that belongs to no session, the thread ends:
all that waits fails at once, and `failure` tells the process.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import perf_counter_ns
from typing import Any, ClassVar, Generic

import structlog
import torch

from forethought.engine.batching.counts import EngineCounts, PassFloors
from forethought.engine.batching.failed_passes import (
    FailedPasses,
    Outcome,
    is_by_replica,
    of_replica,
)
from forethought.engine.batching.following import (
    Follow,
    FollowingWork,
    ResultT,
    WorkT,
    nothing_follows,
)
from forethought.engine.batching.scheduler import Job, Scheduler, SchedulerOptions, Turn
from forethought.engine.cache.block_archive import BlockArchive, ComputeRate
from forethought.engine.cache.block_pool import BlockName, BlockPool
from forethought.engine.cache.hidden_tail import SequenceStates
from forethought.engine.cache.kv_memory import allocate_blocks
from forethought.engine.cache.restorer import Restorer
from forethought.engine.cache.sequence import CachedSequence, num_blocks_for
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.kv_layout import KVLayout
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack
from forethought.engine.native.cores import bind_threads
from forethought.errors import DrainingError, OverloadedError, ReplicaFailedError
from forethought.heartbeat import Heartbeat
from forethought.supervision import Failure
from forethought.tier import EngineWork, PassCost, RoundTimings, TierLoad

_log = structlog.get_logger(__name__)

Finish = Callable[[Sequence[WorkT], torch.Tensor], Sequence[ResultT | None]]
"""What a tier makes of logits: work whose tokens are computed, and [R, V] float32 with the
`num_logits` rows of each, in order -> a result for each, or None if its log has grown and it wants
another pass. Must change nothing if it raises."""

_BLOCKED_S = 0.05  # between two looks whether there is room
_MEASURED_TOKENS = 128  # of a prompt, to know what computing takes before there is any
_IDLE_S = 2.0  # without work, before the books are checked


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """What a tier takes on."""

    num_blocks: int
    """Of the KV cache."""
    max_sessions: int = 256
    """Sessions open at a time."""
    max_waiting: int = 256
    """Sessions that wait for memory; beyond that, none is taken in."""
    scheduler: SchedulerOptions = field(default_factory=SchedulerOptions)
    turns: AbstractContextManager[None] | None = None
    """Held during the model's part of a pass; see `PassTurns`."""


class Engine(Generic[WorkT, ResultT]):
    """Runs a model for many sessions.

    Args:
        model: loaded and warm. Its cache is made here.
        limits: what to take on.
        finish: the tier's part.
        follow: what is sure enough to be asked for next; see `following.py`.
        pass_costs: of the model, as measured when the tier started.

    Raises:
        NotEnoughMemoryError: there is no memory for so many blocks.
    """

    def __init__(
        self,
        model: CausalModel,
        limits: EngineLimits,
        finish: Finish[WorkT, ResultT],
        follow: Follow[WorkT, ResultT] = nothing_follows,
        *,
        pass_costs: Sequence[PassCost] = (),
    ) -> None:
        floors = PassFloors(pass_costs)
        self._model = model
        self._device = device_of(model)
        self._limits = limits
        self._finish = finish
        self._following: FollowingWork[WorkT, ResultT] = FollowingWork(follow)
        self._pool = BlockPool(limits.num_blocks, self._published)
        self.counts = EngineCounts()
        self._scheduler = Scheduler(self._pool, limits.scheduler, self.counts)
        self._messages: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._open: set[CachedSequence] = set()  # in the event loop's hands
        self._loop: asyncio.AbstractEventLoop | None = None
        self.restorer: Restorer | None = None
        """Restores sessions, if there is an archive."""
        self._is_closed = False
        self.failure = Failure("engine")
        """Why its thread has ended, if it has for no good reason."""
        self.heartbeat = Heartbeat("engine", floors.seconds(limits.scheduler.max_tokens))
        """Of its thread; a step is a pass, with what follows from it."""
        self._floors = floors
        self._failed_passes = FailedPasses(self._can_compute)
        self._asked: set[Job] = set()  # that somebody waits for, in the event loop's hands
        self._untold: list[Outcome] = []  # told when the next pass is under way, or there is none
        self._num_running = 0  # jobs in the pass that is under way
        self._began_ns = perf_counter_ns()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self.max_model_len = min(model.max_model_len, limits.num_blocks * BLOCK_LEN)
        """Longest sequence that model and cache take, tokens."""
        allocate_blocks(model, limits.num_blocks)

    # In the event loop.

    def use_archive(self, archive: BlockArchive, rate: ComputeRate) -> None:
        """Keeps full blocks in an archive, and looks for those of new sessions there.

        Args:
            archive: to be closed after the engine.
            rate: of computing. It is measured here, once, and then with every prompt.
        """
        self._loop = asyncio.get_running_loop()
        self.restorer = Restorer(self._model, archive, rate, self._send, self._compute_prompt)
        self._send(lambda: self._measure_prompt(rate))

    block_len: ClassVar[int] = BLOCK_LEN
    """Tokens in a block of the cache."""

    @property
    def max_sessions(self) -> int:
        """Sessions that may be open at a time."""
        return self._limits.max_sessions

    @property
    def kv_layout(self) -> KVLayout:
        """Of the blocks that an archive gets."""
        return self._model.kv_layout

    def open(
        self,
        token_ids: Sequence[int],
        salt: bytes | None = b"",
        states: SequenceStates | None = None,
    ) -> CachedSequence:
        """Takes a session in, and begins to compute its tokens.

        Args:
            token_ids: committed; none where the session's first work brings them.
            salt: sessions with different salts share no part of the cache; with None it shares
                nothing at all, since more than its tokens goes into it.
            states: hidden states that go with the tokens.

        Raises:
            OverloadedError: there is no room for another session.
            InvalidArgumentError: tokens that the model does not have, or too many.
            DrainingError: the engine is closed.
            ReplicaFailedError: it has failed.
        """
        self._check_open()
        self._loop = asyncio.get_running_loop()
        self._check_room()
        sequence = self.new_sequence(salt)
        sequence.extend(token_ids)
        sequence.states = states
        self._open.add(sequence)
        waits = self._begin_restore(sequence, token_ids, salt)
        self._send(lambda: self._take_in(sequence, waits=waits or not token_ids))
        return sequence

    def _check_room(self) -> None:
        problem = ""
        if len(self._open) >= self._limits.max_sessions:
            problem = f"{self._limits.max_sessions} sessions are open, the most this tier takes"
        elif (num_waiting := self._num_waiting_sessions) >= self._limits.max_waiting:
            problem = f"{num_waiting} sessions wait for memory, the most this tier lets wait"
        if problem:
            self.counts.num_refused_sessions += 1
            raise OverloadedError(problem)

    @property
    def _num_waiting_sessions(self) -> int:
        """Those that wait for memory."""
        return sum(
            sequence.num_tokens > 0 and not (sequence.block_ids or self._is_restoring(sequence))
            for sequence in list(self._open)
        )

    def new_sequence(self, salt: bytes | None = b"") -> CachedSequence:
        """An empty sequence. It is no session: nobody waits for it, and none is refused for it.

        Work that is started on it takes it in; `discard` frees it.
        """
        return CachedSequence(
            self._pool,
            self._model.vocab_size,
            self.max_model_len,
            self._model.device_name,
            salt,
        )

    def count_reusable(self, token_ids: Sequence[int], salt: bytes = b"") -> int:
        """How many of a session's tokens are in the cache already."""
        return self._pool.count_match(token_ids[:-1], salt)

    async def count_restored(self, sequence: CachedSequence) -> int:
        """How many tokens of a session are on their way from the archive. Waits until that is
        known, for a short while."""
        return 0 if self.restorer is None else await self.restorer.count_found(sequence)

    async def run(self, work: WorkT) -> tuple[ResultT, RoundTimings]:
        """Waits for the result of a piece of work, and before that for the session's restore.

        Raises:
            DrainingError: the engine is closed, or was before the work was done.
            ReplicaFailedError: computing it failed, for a reason that is not its own.
            Exception: whatever beginning or finishing it raises.
        """
        self._check_open()
        arrived_ns = perf_counter_ns()
        if self.restorer is not None:
            await self.restorer.wait(work.sequence)
            self._check_open()
        job = self._following.take(work)
        if job is None:
            job = self._new_job(work, arrived_ns)
            self._send(lambda: self._begin(job))
        elif job.future.done() and not job.future.exception():
            self._follow_late(job, job.future.result())
        self._asked.add(job)
        try:
            result: ResultT = await job.future
        except asyncio.CancelledError:
            self._send(lambda: self._scheduler.finish(job))
            raise
        finally:
            self._asked.discard(job)
        queue_ns = job.started_ns - job.arrived_ns
        self.counts.queue.observe(queue_ns / 1e9)
        return result, RoundTimings(
            queue_ns=queue_ns,
            forward_ns=job.forward_ns,
            total_ns=perf_counter_ns() - job.arrived_ns,
            batch_size=job.batch_size,
            num_batch_tokens=job.num_batch_tokens,
            finish_ns=job.finish_ns,
        )

    def _new_job(self, work: WorkT, arrived_ns: int, *, is_asked_for: bool = True) -> Job:
        """One that somebody waits for, or may. In either thread."""
        assert self._loop is not None
        future = self._loop.create_future()
        return Job(work, work.sequence, arrived_ns, future, is_asked_for)

    def _follow_late(self, job: Job, result: ResultT) -> None:
        """Begins what follows from a job that was done before it was asked for."""
        following = self._following.after(job, result)
        if following is not None:
            begun = self._new_job(following, perf_counter_ns(), is_asked_for=False)
            self._send(lambda: self._begin(begun))
            self._following.expect(begun)

    def start(self, work: WorkT) -> None:
        """Begins work that nobody waits for. The session's next work takes its place."""
        if not self._is_closed:
            job = Job(work, work.sequence, perf_counter_ns())
            self._send(lambda: self._begin(job))

    def discard(self, sequence: CachedSequence) -> None:
        """Ends a session. Its memory is free soon after; until then it counts as open."""
        if self.restorer is not None:
            self.restorer.abandon(sequence)
        if self._is_closed:
            self._forget(sequence)
        else:
            self._send(lambda: self._remove(sequence))

    def load(self) -> TierLoad:
        """What is held now. Any thread may ask."""
        if self.failure.error is not None:
            return TierLoad(num_sessions=0, num_cached_tokens=0, num_queued_jobs=0)
        return TierLoad(
            num_sessions=len(self._open),
            num_cached_tokens=sum(sequence.num_cached_tokens for sequence in list(self._open)),
            num_queued_jobs=max(
                self._messages.qsize() + self._scheduler.num_waiting - self._num_running, 0
            ),
        )

    def work(self) -> EngineWork:
        """What was done until now, and what waits. Any thread may ask."""
        counts, num_blocks = self.counts, self._pool.num_blocks
        return EngineWork(
            uptime_ns=perf_counter_ns() - self._began_ns,
            busy_ns=round(counts.passes.total * 1e9),
            num_computed_tokens=round(counts.pass_tokens.total),
            num_refused_sessions=counts.num_refused_sessions,
            num_waiting_tokens=sum(sequence.num_uncomputed for sequence in list(self._open)),
            num_waiting_sessions=self._num_waiting_sessions,
            num_held_blocks=num_blocks - self._pool.num_available,
            num_blocks=num_blocks,
            block_len=BLOCK_LEN,
        )

    async def close(self) -> None:
        """Fails the work that is left, and returns when the running pass has ended."""
        self._is_closed = True
        self._messages.put(self._fail_all)
        if self.restorer is not None:
            await self.restorer.close()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _check_open(self) -> None:
        if self.failure.error is not None:
            raise ReplicaFailedError("the engine of this replica has failed")
        if self._is_closed:
            raise DrainingError("the engine is closed")

    def _begin_restore(
        self, sequence: CachedSequence, token_ids: Sequence[int], salt: bytes | None
    ) -> bool:
        if self.restorer is None or salt is None:
            return False
        num_held = self.count_reusable(token_ids, salt)
        return self.restorer.begin(sequence, token_ids[:-1], salt, num_held)

    def _is_restoring(self, sequence: CachedSequence) -> bool:
        return self.restorer is not None and sequence in self.restorer

    def _forget(self, sequence: CachedSequence) -> None:
        self._open.discard(sequence)
        self._following.forget(sequence)

    def _send(self, message: Callable[[], None]) -> None:
        self._messages.put(message)
        if self._thread.is_alive() or self._is_closed:
            return
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._end(error)

    def _give_all_back(self) -> None:
        """Fails all that waits, and forgets all sessions: there is nobody who could serve them."""
        for job in self._asked:
            if not job.future.done():
                job.future.set_exception(ReplicaFailedError("the engine of this replica failed"))
        if self.restorer is not None:
            self.restorer.abandon_all()
        for sequence in list(self._open):
            self._forget(sequence)

    # In the engine's thread.

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - the last guard; MemoryError is the likeliest
            self._end(error)
        finally:
            self.heartbeat.rest()

    def _end(self, error: BaseException) -> None:
        """The thread cannot go on."""
        self._is_closed = True
        try:
            self.failure.happened(error)
        finally:
            self._call_loop(self._give_all_back)

    def _work(self) -> None:
        # OpenMP counts threads for each thread that computes, and this one is new to it.
        torch.set_num_threads(torch.get_num_threads())
        if self._device.type == "cpu":
            bind_threads()
        is_checked = True  # nothing has changed since the books were found right
        while not self._is_closed:
            self._take_messages(0 if self._scheduler.num_jobs else None if is_checked else _IDLE_S)
            while (linger_s := self._scheduler.linger_s()) and not self._is_closed:
                self._take_messages(linger_s)
            turns = self._scheduler.next_pass()
            if turns:
                self._compute(turns)
                is_checked = False
            elif self._scheduler.num_jobs:
                self._take_messages(_BLOCKED_S)
            elif not is_checked and self._messages.empty():
                self.check()
                is_checked = True
        self._tell()
        self._take_messages(0)

    def _take_messages(self, timeout_s: float | None) -> None:
        """Does what has been asked for; waits for the first message if there is none."""
        if timeout_s != 0:
            self._tell()
            self.heartbeat.rest()
        try:
            message = self._messages.get(timeout_s != 0, timeout_s)
            self.heartbeat.beat()
            while True:
                message()
                message = self._messages.get_nowait()
        except Empty:
            return

    def _take_in(self, sequence: CachedSequence, *, waits: bool) -> None:
        self._scheduler.open(sequence)
        if not waits:
            self._compute_prompt(sequence)

    def _compute_prompt(self, sequence: CachedSequence) -> None:
        self._scheduler.add(Job(None, sequence, perf_counter_ns()))

    def _measure_prompt(self, rate: ComputeRate) -> None:
        """Into the pool, where nothing is yet."""
        num_tokens = min(_MEASURED_TOKENS, self._limits.scheduler.max_tokens, self.max_model_len)
        part = SequencePart([0] * num_tokens, 0, range(num_blocks_for(num_tokens)), 1)
        with self._limits.turns or nullcontext():
            started = perf_counter_ns()
            # Copied, so that a device has finished when the time is taken.
            self._model.forward(pack([part], self._device))[:1, :1].cpu()
        rate.passed(num_tokens, (perf_counter_ns() - started) / 1e9)

    def _published(self, block_id: int, name: BlockName) -> None:
        if self.restorer is not None:
            self.restorer.offer(block_id, name)

    def _begin(self, job: Job) -> None:
        try:
            result = self._scheduler.add(job)
        except Exception as error:  # noqa: BLE001 - told to the caller
            self._settle([(job, None, error)])
            return
        if result is not None:
            job.started_ns = perf_counter_ns()
            self._scheduler.finish(job)
            self._settle([(job, result, None)])

    def _remove(self, sequence: CachedSequence) -> None:
        job = self._scheduler.remove(sequence)
        if job is not None and job.future is not None:
            self._settle([(job, None, DrainingError("the session has ended"))])
        self._call_loop(lambda: self._forget(sequence))

    def _compute(self, turns: list[Turn]) -> None:
        """One pass, and what follows from it."""
        self.heartbeat.beat()
        self._num_running = len(turns)
        try:
            packed = pack([turn.part for turn in turns], self._device, on_start=self._tell)
            if self._limits.turns is not None:
                self._tell()  # it may take a while until it is our turn
            with self._limits.turns or nullcontext():
                started_ns = perf_counter_ns()
                logits = self._forward(packed, turns)
        except Exception as error:  # noqa: BLE001 - told to the callers
            _log.exception("pass_failed", num_sequences=len(turns))
            self._mend(turns, error)
            return
        finally:
            self._num_running = 0
            self._tell()
        for turn in turns:
            turn.job.sequence.computed(len(turn.part.token_ids))
        done = [turn.job for turn in turns if turn.part.num_logits]
        modelled_ns = perf_counter_ns()
        outcomes = self._failed_passes.judge(self._outcomes(done, logits))
        ended_ns = perf_counter_ns()
        elapsed_ns = ended_ns - started_ns
        num_tokens = sum(len(turn.part.token_ids) for turn in turns)
        for turn in turns:
            turn.job.started_ns = turn.job.started_ns or started_ns
            turn.job.forward_ns += elapsed_ns
            turn.job.finish_ns += ended_ns - modelled_ns
            if len(turns) >= turn.job.batch_size:
                turn.job.batch_size = len(turns)
                turn.job.num_batch_tokens = num_tokens
        self._scheduler.pass_took(elapsed_ns / 1e9)
        self.counts.passes.observe(elapsed_ns / 1e9)
        self.counts.pass_tokens.observe(num_tokens)
        self.counts.floor_s += self._floors.seconds(num_tokens)
        # Elsewhere than on a CPU a pass may still be under way.
        if self.restorer is not None and self._device.type == "cpu":
            self.restorer.rate.passed(num_tokens, elapsed_ns / 1e9)
        settled = [each for each in outcomes if each[1] is not None or each[2] is not None]
        for job, result, fault in settled:
            self._scheduler.finish(job)
            if is_by_replica(fault):
                job.sequence.withdraw()
            if job.is_asked_for and result is not None:
                self._begin_following(job, result)
        self._untold = settled

    def _mend(self, turns: list[Turn], error: Exception) -> None:
        """Computes those of a pass that failed one by one, and gives up on one that is alone."""
        if len(turns) > 1:
            for turn in turns:
                self._compute([turn])
            return
        self.counts.num_failed_passes += 1
        job = turns[0].job
        # Some layers may be filled and others not.
        job.sequence.release()
        self._scheduler.finish(job)
        self._settle([(job, None, of_replica(error))])
        self._failed_passes.failed(error)

    def _can_compute(self) -> bool:
        """Whether the model computes numbers from a token that nobody asked for."""
        blocks = self._pool.allocate(1)
        if blocks is None:
            return False
        try:
            packed = pack([SequencePart([0], 0, blocks, 1)], self._device)
            with self._limits.turns or nullcontext():
                return bool(self._model.forward(packed).isfinite().any())
        except Exception:  # noqa: BLE001 - that is the answer
            return False
        finally:
            self._pool.release(blocks)

    def _tell(self) -> None:
        """Tells the callers of the last pass. What they do then needs the interpreter, as the next
        pass does until it has begun."""
        untold, self._untold = self._untold, []
        self._settle(untold)

    def _begin_following(self, job: Job, result: ResultT) -> None:
        """Begins what follows from a job that is done. Its caller hears of it with the result."""
        following = self._following.after(job, result)
        if following is not None:
            job.following = self._new_job(following, perf_counter_ns(), is_asked_for=False)
            self._begin(job.following)

    def _forward(self, packed: PackedPass, turns: list[Turn]) -> torch.Tensor:
        """The logits; hidden states go to the sequences that want them."""
        if packed.hidden_rows is None:
            return self._model.forward(packed)
        logits, rows = self._model.forward_with_states(packed)
        sizes = [turn.part.num_hidden_states for turn in turns]
        for turn, own in zip(turns, torch.split(rows, sizes), strict=True):
            part, states = turn.part, turn.job.sequence.states
            if states is not None and len(own):
                states.take(part.start + len(part.token_ids) - len(own), own)
        return logits

    def _outcomes(self, jobs: list[Job], logits: torch.Tensor) -> list[Outcome]:
        """Result or error of each job; neither for one that wants another pass."""
        if not jobs:
            return []
        work: list[Any] = [job.work for job in jobs]
        try:
            results = self._finish(work, logits)
            return [(job, result, None) for job, result in zip(jobs, results, strict=True)]
        except Exception as error:  # noqa: BLE001 - told to the callers
            if len(jobs) == 1:
                return [(jobs[0], None, error)]
        # One of them is at fault; the others shall not suffer for it.
        rows = torch.split(logits, [job.num_logits for job in jobs])
        return [self._outcomes([job], own)[0] for job, own in zip(jobs, rows, strict=True)]

    def _settle(self, outcomes: list[Outcome]) -> None:
        """Tells the callers, all of them in one visit to the event loop."""
        waiting = [each for each in outcomes if each[0].future is not None]

        def tell() -> None:
            for job, result, error in waiting:
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

        if waiting:
            self._call_loop(tell)

    def _call_loop(self, callback: Callable[[], None]) -> None:
        assert self._loop is not None
        # The event loop may have ended with its process.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _fail_all(self) -> None:
        for sequence in list(self._scheduler.sequences):
            self._remove(sequence)

    def check(self) -> None:
        """Whether the books of the KV cache agree. For the engine's thread, or when it is idle.

        Raises:
            IntegrityError: they do not.
        """
        self._pool.check(sequence.block_ids for sequence in self._scheduler.sequences)
