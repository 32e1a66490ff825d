"""Keys and values on their way to Redis, behind the back of whoever computed them.

The engine's thread offers full blocks and goes on: an offer takes a place in a queue that is
bounded in bytes, or is dropped. A task on the event loop sends what is queued in pipelines, and
asks first, since sessions that begin alike have blocks alike. What cannot be written is dropped and
counted: it can be computed again.
"""

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from threading import Lock

from redis.asyncio import Redis

from forethought.errors import StoreUnavailableError
from forethought.runtime.supervision import keep_running
from forethought.store.blocks.block_codec import BlockId, Numbers, encode_block
from forethought.store.blocks.block_store import BlockMode, BlockStore
from forethought.store.blocks.transfer_rate import TransferRate
from forethought.store.server.breaker import Breaker, BreakerSettings
from forethought.store.server.memory_share import MemoryShare


@dataclass(frozen=True, slots=True)
class WriteBehindSettings:
    """How much may wait, and how much may be written."""

    max_queued_bytes: int = 64 * 2**20
    """Memory for blocks that wait to be written. What comes beyond is dropped."""
    max_memory_share: float = 0.8
    """Of a server's memory that evicts nothing: beyond that no blocks are written."""
    refused: BreakerSettings = field(default_factory=lambda: BreakerSettings(max_failures=1))
    """How long nothing is sent to a server that does not take it."""


@dataclass(slots=True)
class WriteCounters:
    """What became of offers since the start. Each field has one writer."""

    num_offered: int = 0
    num_unwanted: int = 0  # stored or queued already, too large, or writing is off
    num_dropped: int = 0  # no room in the queue, or closed
    num_present: int = 0  # found to be stored when their turn came
    num_written: int = 0
    num_failed: int = 0  # not written: the server is away, full, or refuses
    num_bytes: int = 0  # of values written


class WriteBehind:
    """Writes the blocks of one store. To be made on its event loop, and closed there.

    `wants` and `offer` are for any one thread.
    """

    def __init__(self, store: BlockStore, settings: WriteBehindSettings | None = None) -> None:
        self._store = store
        self._settings = settings or WriteBehindSettings()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lock = Lock()  # for these four:
        self._queue: deque[tuple[BlockId, Numbers]] = deque()
        self._queued: set[bytes] = set()  # hashes of blocks not written yet
        self._queued_bytes = 0
        self._closed = False
        self._share = MemoryShare(store.connection, self._settings.max_memory_share)
        self._refused = Breaker(self._settings.refused)
        self.rate = TransferRate()
        """Of writes."""
        self.counters = WriteCounters()
        self._task = keep_running("writer of blocks", self._run)

    @property
    def num_queued_bytes(self) -> int:
        """Memory of the blocks that wait."""
        return self._queued_bytes

    def wants(self, block_id: BlockId) -> bool:
        """Whether an offer could be of use, to be asked before the numbers are copied."""
        return (
            self._store.settings.mode is BlockMode.READ_WRITE
            and self._store.fits(block_id)
            and block_id.block_hash not in self._queued
            and block_id.block_hash not in self._store.known
        )

    def offer(self, block_id: BlockId, numbers: Numbers) -> bool:
        """Queues a block. Never waits.

        Args:
            block_id: which.
            numbers: of the store's format; the caller leaves them as they are from now on.

        Returns:
            Whether it was queued.

        Raises:
            InvalidArgumentError: the numbers are not of the store's format.
        """
        self._store.block_format.check(numbers)
        self.counters.num_offered += 1
        if not self.wants(block_id):
            self.counters.num_unwanted += 1
            return False
        with self._lock:
            has_room = self._queued_bytes + numbers.nbytes <= self._settings.max_queued_bytes
            if self._closed or not has_room:
                self.counters.num_dropped += 1
                return False
            self._queue.append((block_id, numbers))
            self._queued.add(block_id.block_hash)
            self._queued_bytes += numbers.nbytes
            if len(self._queue) == 1:
                # Under the lock, so that `close` does not let the loop end in between.
                self._loop.call_soon_threadsafe(self._wake.set)
        return True

    async def close(self, timeout_s: float = 2.0) -> None:
        """Writes what is queued, as far as the time goes, and takes no more."""
        with self._lock:
            self._closed = True
        self._wake.set()
        await asyncio.wait({self._task}, timeout=timeout_s)
        self._task.cancel()
        await asyncio.wait({self._task})
        with self._lock:
            self.counters.num_failed += len(self._queue)
            self._queue.clear()
            self._queued.clear()
            self._queued_bytes = 0

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while batch := self._next_batch():
                try:
                    await self._send(batch)
                finally:
                    self._forget(batch)
            if self._closed:
                return

    def _next_batch(self) -> list[tuple[BlockId, Numbers]]:
        length = self._store.piece_len(self.rate)
        with self._lock:
            return [self._queue.popleft() for _ in range(min(length, len(self._queue)))]

    def _forget(self, batch: list[tuple[BlockId, Numbers]]) -> None:
        with self._lock:
            for block_id, numbers in batch:
                self._queued.discard(block_id.block_hash)
                self._queued_bytes -= numbers.nbytes

    async def _send(self, batch: list[tuple[BlockId, Numbers]]) -> None:
        """Writes those of the blocks that are not stored, and whose numbers are numbers."""
        if not self._refused.admits():
            self.counters.num_failed += len(batch)
            return
        num_left = len(batch)
        try:
            found = await self._store.are_stored([block_id for block_id, _ in batch])
            missing = [each for each, is_there in zip(batch, found, strict=True) if not is_there]
            self.counters.num_present += num_left - len(missing)
            num_left = len(missing)
            # Nobody would read others, and each who tries would remove them.
            sound = [each for each in missing if self._store.block_format.are_finite(each[1])]
            if sound and await self._share.has_room():
                await self._write(sound)
                num_left -= len(sound)
        except StoreUnavailableError:
            self._refused.failed()
        except BaseException:
            self._refused.given_up()
            raise
        else:
            self._refused.succeeded()
        finally:
            self.counters.num_failed += num_left

    async def _write(self, blocks: list[tuple[BlockId, Numbers]]) -> None:
        store = self._store
        values = [encode_block(store.block_format, *block) for block in blocks]
        ttl_ms = round(1000 * store.settings.ttl_s)

        async def call(client: Redis) -> None:
            async with client.pipeline(transaction=False) as pipeline:
                for (block_id, _), value in zip(blocks, values, strict=True):
                    pipeline.set(store.key(block_id), value, px=ttl_ms)
                await pipeline.execute()

        began = time.perf_counter()
        await store.connection.run(call)
        num_bytes = sum(map(len, values))
        self.rate.transferred(num_bytes, time.perf_counter() - began)
        self.counters.num_written += len(values)
        self.counters.num_bytes += num_bytes
        for block_id, _ in blocks:
            store.known.add(block_id.block_hash)
