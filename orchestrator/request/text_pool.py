"""Work on texts, in threads, with a queue for each who asks.

Tokenizing takes a time that grows with the text, and once begun it cannot be stopped. So few texts
are worked on at a time, and who waits is served in an order that a flood of long texts does not
change: by work done, as fair queueing does with packets (self-clocked fair queueing: Golestani,
INFOCOM 1994). The next text is that with the least sum of the bytes that its flow was served, and
its own. Work that takes longer than its bytes let expect counts for more of them. Of one flow, and
among newcomers, the shortest comes first. One thread takes short texts only, so that they never
wait for a long one to end.

Who no longer waits, since its call was cancelled, is forgotten. What waits is bounded in bytes, and
shared out between flows.
"""

import asyncio
import bisect
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from forethought.errors import OverloadedError
from forethought.models.encoding.process import MAX_SHORT_CHARS
from forethought.runtime.heartbeat import Heartbeat
from forethought.runtime.memory import give_back_memory
from forethought.shares import Shares

Result = TypeVar("Result")

MAX_INLINE_BYTES = 1000
"""Texts up to this size are worked on in the event loop: it takes 0.2 ms at most, and a thread
would delay the first token by 0.1 ms. Longer ones would hold up everybody else's tokens."""

MAX_SHORT_BYTES = MAX_SHORT_CHARS
"""Texts up to this size are worked on in some milliseconds."""

MAX_WAITING_BYTES = 16 * 2**20
"""Of requests that wait. Each takes about four times its bytes: as it came, and as values."""

SHORT_SHARE = 16
"""One part in so many of what may wait is for short texts alone: they find room beside any number
of long ones."""

CALL_BYTES = 8 * 2**10
"""What a call takes that waits, besides its text."""

TRIM_DELAY_S = 1.0
"""From a long text to when its memory is given back, together with that of others."""

BYTES_PER_S = 250_000
"""Work that takes longer than its bytes at this speed counts as so many bytes as it took."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    num_bytes: int
    work: Callable[[], Any]
    result: asyncio.Future[Any]


class _Flow:
    """What one asker waits for, the shortest first."""

    def __init__(self, served_bytes: int) -> None:
        self.served_bytes = served_bytes
        """Of all its jobs that were begun, and of those of others before it came."""
        self._waiting: list[_Job] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def owes(self, clock: int) -> bool:
        """Whether it was served more than others, and so is no newcomer."""
        return self.served_bytes > clock

    def add(self, job: _Job) -> None:
        bisect.insort(self._waiting, job, key=lambda each: each.num_bytes)

    def drop(self, job: _Job) -> None:
        """Forgets a job, if it still waits."""
        if job in self._waiting:
            self._waiting.remove(job)

    def next_of(self, max_bytes: int) -> _Job | None:
        """The job to do next."""
        if self._waiting and self._waiting[0].num_bytes <= max_bytes:
            return self._waiting[0]
        return None


class _Lane:
    """A thread that does one job at a time."""

    def __init__(self, name: str, max_bytes: int, clock: Callable[[], float]) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self.max_bytes = max_bytes
        self.is_busy = False
        self.heartbeat = Heartbeat(f"thread for {name}", clock=clock)


class TextPool:
    """Threads that work on texts. Belongs to one event loop.

    Args:
        max_waiting_bytes: most bytes of texts that wait.
        clock: by which a text is judged that is never done, seconds.
    """

    def __init__(
        self,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = (
            _Lane("short-texts", MAX_SHORT_BYTES, clock),
            _Lane("texts", max_waiting_bytes, clock),
        )
        self._shares = Shares(max_waiting_bytes)
        self._flows: dict[Hashable, _Flow] = {}
        self._clock = 0  # served bytes of the flow that was served last, that job included
        self._trim: asyncio.TimerHandle | None = None

    async def run(self, flow: Hashable, num_bytes: int, work: Callable[[], Result]) -> Result:
        """The result of `work`, which runs in a thread.

        Args:
            flow: who asks.
            num_bytes: what the work is on, and grows with.
            work: what to do.

        Raises:
            OverloadedError: too much waits, and too much of that for the same flow.
        """
        charge = num_bytes + CALL_BYTES
        kept_free = self._shares.total // SHORT_SHARE if num_bytes > MAX_SHORT_BYTES else 0
        if not self._shares.has_room(flow, charge, kept_free):
            raise OverloadedError("too many texts wait to be tokenized")
        job = _Job(num_bytes, work, asyncio.get_running_loop().create_future())
        self._shares.take(flow, charge)
        self._flows.setdefault(flow, _Flow(self._clock)).add(job)
        try:
            self._begin_jobs()
            result: Result = await job.result
            return result
        finally:
            self._shares.give_back(flow, charge)
            if flow in self._flows:
                self._flows[flow].drop(job)
            self._forget_idle()

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of its threads."""
        return [lane.heartbeat for lane in self._lanes]

    def queue(self, flow: Hashable) -> "TextQueue":
        """The queue of one asker."""
        return TextQueue(self, flow)

    def give_back_memory_soon(self) -> None:
        """Gives memory back in a while, since something large was freed or will be."""
        if self._trim is None:
            loop = asyncio.get_running_loop()
            self._trim = loop.call_later(TRIM_DELAY_S, self._give_back_memory)

    def _begin_jobs(self) -> None:
        for lane in self._lanes:
            while not lane.is_busy and (found := self._take_next(lane.max_bytes)) is not None:
                self._begin(*found, lane)
        self._forget_idle()

    def _take_next(self, max_bytes: int) -> tuple[Hashable, _Job] | None:
        candidates = [
            (flow.served_bytes + job.num_bytes, name, job)
            for name, flow in self._flows.items()
            if (job := flow.next_of(max_bytes)) is not None
        ]
        if not candidates:
            return None
        self._clock, name, job = min(candidates, key=lambda each: each[0])
        self._flows[name].served_bytes = self._clock
        self._flows[name].drop(job)
        return name, job

    def _forget_idle(self) -> None:
        """Flows with nothing to do, once they are as newcomers; all of them when all is done."""
        is_idle = not any(self._flows.values()) and not any(lane.is_busy for lane in self._lanes)
        for name, flow in list(self._flows.items()):
            if not flow and (is_idle or not flow.owes(self._clock)):
                del self._flows[name]

    def _charge(self, name: Hashable, num_bytes: int) -> None:
        """Counts work that took longer than its bytes let expect."""
        if num_bytes > 0:
            self._flows.setdefault(name, _Flow(self._clock)).served_bytes += num_bytes

    def _begin(self, name: Hashable, job: _Job, lane: _Lane) -> None:
        began_s = asyncio.get_running_loop().time()

        def take_result(done: asyncio.Future[Any]) -> None:
            lane.is_busy = False
            lane.heartbeat.rest()
            took_s = asyncio.get_running_loop().time() - began_s
            self._charge(name, round(took_s * BYTES_PER_S) - job.num_bytes)
            if not job.result.done():  # else nobody waits for it any more
                if error := done.exception():
                    job.result.set_exception(error)
                else:
                    job.result.set_result(done.result())
            self._begin_jobs()

        def work() -> Any:
            try:
                return job.work()
            except StopIteration as error:  # no future takes it
                raise RuntimeError("a text could not be worked on") from error

        loop = asyncio.get_running_loop()
        try:
            working = loop.run_in_executor(lane.executor, work)
        except RuntimeError:  # the system gives no more threads
            if not job.result.done():
                job.result.set_exception(OverloadedError("there is no thread to tokenize in"))
            return
        lane.is_busy = True
        lane.heartbeat.beat()
        working.add_done_callback(take_result)
        if job.num_bytes > MAX_SHORT_BYTES:
            self.give_back_memory_soon()

    def _give_back_memory(self) -> None:
        self._trim = None
        asyncio.get_running_loop().run_in_executor(self._lanes[0].executor, give_back_memory)


@dataclass(frozen=True, slots=True)
class TextQueue:
    """Where one asker waits for work on its texts."""

    pool: TextPool
    flow: Hashable

    async def run(self, num_bytes: int, work: Callable[[], Result]) -> Result:
        """As of the pool, but for work on few bytes, which is done at once."""
        if num_bytes <= MAX_INLINE_BYTES:
            return work()
        return await self.pool.run(self.flow, num_bytes, work)
