"""The batching engine: an event loop that asks, and one thread that computes.

This is the event loop's half: it takes sessions and work in, or refuses them, and waits for
results. `passes.py` is the thread's half, `engine_thread.py` the mailbox between the two, and
`results.py` the one place where callers hear what became of their work.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns
from typing import ClassVar, Generic

from forethought.engine.batching.counts import EngineCounts
from forethought.engine.batching.engine_thread import EngineThread
from forethought.engine.batching.following import Follow, ResultT, WorkT, nothing_follows
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.model_runner import Finish, ModelRunner
from forethought.engine.batching.open_sessions import OpenSessions
from forethought.engine.batching.passes import Passes
from forethought.engine.batching.results import Results
from forethought.engine.batching.scheduler import Job, Scheduler
from forethought.engine.cache.block_archive import BlockArchive, ComputeRate
from forethought.engine.cache.block_pool import BlockName, BlockPool
from forethought.engine.cache.hidden_tail import SequenceStates
from forethought.engine.cache.kv_memory import allocate_blocks
from forethought.engine.cache.restorer import Restorer
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.kv_layout import KVLayout
from forethought.engine.model.packed import BLOCK_LEN
from forethought.errors import DrainingError, ReplicaFailedError
from forethought.pass_profile import PassProfile
from forethought.tier import EngineWork, PassCost, RoundTimings, TierLoad

_MEASURED_TOKENS = 128  # of a prompt, to know what computing takes before there is any


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
        profile = PassProfile(pass_costs)
        self._model = model
        self._limits = limits
        self._pool = BlockPool(limits.num_blocks, self._published)
        self.counts = EngineCounts(profile)
        self._scheduler = Scheduler(self._pool, limits.scheduler, self.counts)
        longest_s = profile.at_most(limits.scheduler.max_tokens)
        self._thread = EngineThread(self._run, self._give_all_back, longest_s)
        self.failure = self._thread.failure
        """Why the thread has ended, if it has for no good reason."""
        self.heartbeat = self._thread.heartbeat
        self._results: Results[WorkT, ResultT] = Results(self._thread, follow, self._begin)
        self._runner = ModelRunner(model, self._pool, finish, limits.turns)
        self._passes = Passes(
            self._thread, self._runner, self._scheduler, self._results, self.counts
        )
        self._open = OpenSessions(limits, self.counts, self._is_restoring)
        self.restorer: Restorer | None = None
        """Restores sessions, if there is an archive."""
        self._began_ns = perf_counter_ns()
        self.max_model_len = min(model.max_model_len, limits.num_blocks * BLOCK_LEN)
        """Longest sequence that model and cache take, tokens."""
        allocate_blocks(model, limits.num_blocks)

    def use_archive(self, archive: BlockArchive, rate: ComputeRate) -> None:
        """Keeps full blocks in an archive, and looks for those of new sessions there.

        Args:
            archive: to be closed after the engine.
            rate: of computing. It is measured here, once, and then with every prompt.
        """
        thread, passes = self._thread, self._passes
        thread.use_running_loop()
        self.restorer = Restorer(self._model, archive, rate, thread.send, passes.compute_prompt)
        passes.observe = rate.passed
        limit = min(self._limits.scheduler.max_tokens, self.max_model_len)
        thread.send(lambda: self._measure(min(_MEASURED_TOKENS, limit), rate))

    def _measure(self, num_tokens: int, rate: ComputeRate) -> None:
        """In the engine's thread."""
        rate.passed(num_tokens, self._runner.measure_prompt(num_tokens))

    def _published(self, block_id: int, name: BlockName) -> None:
        """In the engine's thread."""
        if self.restorer is not None:
            self.restorer.offer(block_id, name)

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
        self._thread.use_running_loop()
        self._open.check_room()
        sequence = self.new_sequence(salt)
        sequence.extend(token_ids)
        sequence.states = states
        self._open.add(sequence)
        waits = self._begin_restore(sequence, token_ids, salt) or not token_ids
        self._thread.send(lambda: self._passes.take_in(sequence, waits=waits))
        return sequence

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
        job = self._results.begun_already(work)
        if job is None:
            job = self._results.new_job(work, arrived_ns)
            self._begin(job)
        try:
            result = await self._results.wait(job)
        except asyncio.CancelledError:
            given_up = job
            self._thread.send(lambda: self._passes.give_up(given_up))
            raise
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

    def _begin(self, job: Job) -> None:
        self._thread.send(lambda: self._passes.begin(job))

    def start(self, work: WorkT) -> None:
        """Begins work that nobody waits for. The session's next work takes its place."""
        if not self._thread.is_closed:
            self._begin(Job(work, work.sequence, perf_counter_ns()))

    def discard(self, sequence: CachedSequence) -> None:
        """Ends a session. Its memory is free soon after; until then it counts as open."""
        if self.restorer is not None:
            self.restorer.abandon(sequence)
        if self._thread.is_closed:
            self._forget(sequence)
        else:
            self._thread.send(lambda: self._remove(sequence))

    def load(self) -> TierLoad:
        """What is held now. Any thread may ask."""
        if self.failure.error is not None:
            return TierLoad(num_sessions=0, num_cached_tokens=0, num_queued_jobs=0)
        return TierLoad(
            num_sessions=len(self._open),
            num_cached_tokens=self._open.num_cached_tokens,
            num_queued_jobs=max(self._thread.num_messages + self._passes.num_waiting, 0),
        )

    def work(self) -> EngineWork:
        """What was done until now, and what waits. Any thread may ask."""
        counts, num_blocks = self.counts, self._pool.num_blocks
        return EngineWork(
            uptime_ns=perf_counter_ns() - self._began_ns,
            busy_ns=round(counts.passes.total * 1e9),
            num_computed_tokens=round(counts.pass_tokens.total),
            num_refused_sessions=counts.num_refused_sessions,
            num_waiting_tokens=self._open.num_uncomputed,
            num_waiting_sessions=self._open.num_waiting,
            num_held_blocks=num_blocks - self._pool.num_available,
            num_blocks=num_blocks,
            block_len=BLOCK_LEN,
        )

    async def close(self) -> None:
        """Fails the work that is left, and returns when the running pass has ended."""
        self._thread.close(self._remove_all)
        if self.restorer is not None:
            await self.restorer.close()
        await self._thread.join()

    def check(self) -> None:
        """Whether the books of the KV cache agree. For when the engine is idle.

        Raises:
            IntegrityError: they do not.
        """
        self._scheduler.check()

    def _check_open(self) -> None:
        if self.failure.error is not None:
            raise ReplicaFailedError("the engine of this replica has failed")
        if self._thread.is_closed:
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
        self._results.forget(sequence)

    def _run(self) -> None:
        """In the engine's thread."""
        self._passes.run()

    def _remove(self, sequence: CachedSequence) -> None:
        """In the engine's thread."""
        self._passes.remove(sequence)
        self._thread.call_loop(lambda: self._forget(sequence))

    def _remove_all(self) -> None:
        """In the engine's thread."""
        for sequence in self._passes.sequences:
            self._remove(sequence)

    def _give_all_back(self) -> None:
        """Fails all that waits, and forgets all sessions: there is nobody who could serve them."""
        self._results.fail_all(ReplicaFailedError("the engine of this replica failed"))
        if self.restorer is not None:
            self.restorer.abandon_all()
        for sequence in self._open.copy():
            self._forget(sequence)
