"""Keys and values of a session that is opened, fetched instead of computed, if that is faster.

What the pool does not hold is looked for in an archive, and streamed into fresh blocks of the pool
while the session waits and others go on. The event loop fetches; the engine's thread puts blocks in
between two passes. The blocks are published like computed ones and given up when all is there, so
the session then takes them as it would take any other's, by the scheduler's rules.

*What it may cost.* Time that is spent on it has to be worth it at every moment: it may never exceed
what computing the blocks that have come would have taken by more than a twentieth of what
computing all takes (`_SLACK`). A timer ends it when it does, whatever it is waiting for, and what
has come stays. It also ends when the rest is estimated to take longer than to compute. So a session
that is opened beside an archive that is slow, stuck or gone loses a twentieth at most.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter

import structlog

from forethought.engine.cache.block_archive import BlockArchive, ComputeRate
from forethought.engine.cache.block_pool import BlockName
from forethought.engine.model.kv_layout import Numbers
from forethought.engine.model.packed import BLOCK_LEN
from forethought.runtime.supervision import start

_log = structlog.get_logger(__name__)

_SLACK = 0.05  # of the time to compute all that is missing
_MIN_SLACK_S = 0.02  # a question and its answer, on a machine that has other things to do
_MAX_SLACK_S = 1.0
_MAX_WAITING = 64  # blocks in memory that wait for the engine's thread

Put = Callable[[int, Numbers], asyncio.Future[bool]]
"""Index of a block in its sequence, and what belongs there: whether the sequence has it now."""


@dataclass(slots=True)
class RestoreCounters:
    """What became of restores since the start."""

    num_asked: int = 0  # sessions with blocks that the pool did not hold
    num_missed: int = 0  # of these, the archive had none of them
    num_unprofitable: int = 0  # it had some, and computing was faster
    num_given_up: int = 0  # ended early since it took too long
    num_blocks: int = 0  # that came and were put into the pool


class Restore:
    """One session's. Begins when it is made, on the event loop.

    Args:
        archive: where to look.
        names: all full blocks that the session wants.
        num_held: of these, held by the pool already.
        rate: of computing.
        counters: of all restores.
        put: hands blocks to the engine's thread.
        on_end: called once, unless it is abandoned; the session may go on.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what one restore shares with all others
        self,
        archive: BlockArchive,
        names: Sequence[BlockName],
        num_held: int,
        rate: ComputeRate,
        counters: RestoreCounters,
        put: Put,
        on_end: Callable[[], None],
    ) -> None:
        self._archive = archive
        self._names = names[num_held:]
        self._num_held = num_held
        self._rate = rate
        self._counters = counters
        self._put = put
        self._on_end = on_end
        self._num_arrived = 0
        self._began = perf_counter()
        self._over = asyncio.Event()
        self._num_found = asyncio.get_running_loop().create_future()
        self._timer: asyncio.TimerHandle | None = None
        counters.num_asked += 1
        self._arm()
        self.task = start("restore", self._run())
        """Ends some time after the restore, when the archive has answered."""

    async def wait(self) -> None:
        """Returns when it is over."""
        await self._over.wait()

    async def count_found(self) -> int:
        """How many tokens are on their way."""
        num_blocks: int = await asyncio.shield(self._num_found)
        return BLOCK_LEN * num_blocks

    def abandon(self) -> None:
        """The session is gone."""
        self._on_end = lambda: None
        self._end()
        self.task.cancel()

    async def _run(self) -> None:
        try:
            num_found = await self._archive.count_prefix(self._names)
            if self._over.is_set():
                return
            if not num_found:
                self._counters.num_missed += 1
            elif not self._pays(num_found):
                self._counters.num_unprofitable += 1
            else:
                self._num_found.set_result(num_found)
                await self._fetch(num_found)
        except Exception:  # noqa: BLE001 - the session can do without
            _log.exception("restore_failed")
        finally:
            self._end()

    async def _fetch(self, num_found: int) -> None:
        waiting: deque[asyncio.Future[bool]] = deque()
        async with aclosing(self._archive.fetch(self._names[:num_found])) as blocks:
            async for numbers in blocks:
                if self._over.is_set():
                    return
                waiting.append(self._put(self._num_held + self._num_arrived, numbers))
                self._num_arrived += 1
                self._arm()
                num_left = num_found - self._num_arrived
                if num_left and not self._pays(num_left):
                    self._counters.num_given_up += 1
                    return
                while waiting and (waiting[0].done() or len(waiting) > _MAX_WAITING):
                    if not await waiting.popleft():
                        return

    def _pays(self, num_blocks: int) -> bool:
        """Whether fetching so many is faster than computing them, as far as one can tell."""
        seconds = self._archive.seconds_for(num_blocks)
        return seconds is None or seconds <= self._compute_s(num_blocks)

    def _compute_s(self, num_blocks: int) -> float:
        return self._rate.seconds_for(num_blocks * BLOCK_LEN)

    def _arm(self) -> None:
        """Sets the timer to when it will have cost more than it may."""
        if self._timer is not None:
            self._timer.cancel()
        slack_s = min(max(_SLACK * self._compute_s(len(self._names)), _MIN_SLACK_S), _MAX_SLACK_S)
        left_s = slack_s + self._compute_s(self._num_arrived) - (perf_counter() - self._began)
        self._timer = asyncio.get_running_loop().call_later(left_s, self._give_up)

    def _give_up(self) -> None:
        self._counters.num_given_up += 1
        self._end()

    def _end(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        if self._timer is not None:
            self._timer.cancel()
        if not self._num_found.done():
            self._num_found.set_result(0)
        _log.debug(
            "restore_ended",
            num_missing_blocks=len(self._names),
            num_arrived_blocks=self._num_arrived,
            ms=round((perf_counter() - self._began) * 1000, 1),
        )
        self._on_end()
