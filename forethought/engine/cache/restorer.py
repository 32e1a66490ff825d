"""The engine's part in an archive: which blocks to offer, and which sessions wait for theirs."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from forethought.engine.cache.block_archive import BlockArchive, ComputeRate
from forethought.engine.cache.block_pool import BlockName, block_names
from forethought.engine.cache.restore import Restore, RestoreCounters
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.kv_layout import Numbers
from forethought.engine.model.packed import BLOCK_LEN

_log = structlog.get_logger(__name__)

Send = Callable[[Callable[[], None]], None]
"""Has something done in the engine's thread, in the order of sending."""


class Restorer:
    """Restores sessions from an archive, and offers blocks to it.

    Args:
        model: whose blocks.
        archive: where they outlive the pool.
        rate: of computing them.
        send: to the engine's thread.
        resume: in the engine's thread, lets a session that has waited be computed.
    """

    def __init__(
        self,
        model: CausalModel,
        archive: BlockArchive,
        rate: ComputeRate,
        send: Send,
        resume: Callable[[CachedSequence], None],
    ) -> None:
        self._model = model
        self._archive = archive
        self.rate = rate
        self._send = send
        self._resume = resume
        self.counters = RestoreCounters()
        self._restores: dict[CachedSequence, Restore] = {}  # in the event loop's hands
        self._tasks: set[asyncio.Task[None]] = set()  # of these, and of some that are over
        self._waiting: set[CachedSequence] = set()  # in the hands of the engine's thread
        self._is_closed = False

    # In the event loop.

    def __contains__(self, sequence: CachedSequence) -> bool:
        """Whether a session waits for its restore."""
        return sequence in self._restores

    def begin(
        self, sequence: CachedSequence, token_ids: Sequence[int], salt: bytes, num_held: int
    ) -> bool:
        """Restores what the pool does not hold of a session that is being opened.

        Args:
            sequence: of the session.
            token_ids: of which keys and values are wanted.
            salt: of the session.
            num_held: tokens that the pool holds.

        Returns:
            Whether there is anything to restore; the session then waits.
        """
        names = list(block_names(token_ids, salt))
        if self._is_closed or len(names) * BLOCK_LEN <= num_held:
            return False
        self._send(lambda: self._waiting.add(sequence))
        restore = Restore(
            self._archive,
            names,
            num_held // BLOCK_LEN,
            self.rate,
            self.counters,
            lambda index, numbers: self._put(sequence, index, numbers),
            lambda: self._end(sequence),
        )
        self._restores[sequence] = restore
        self._tasks.add(restore.task)
        restore.task.add_done_callback(self._tasks.discard)
        return True

    async def wait(self, sequence: CachedSequence) -> None:
        """Returns when a session has what it gets."""
        if sequence in self._restores:
            await self._restores[sequence].wait()

    async def count_found(self, sequence: CachedSequence) -> int:
        """How many tokens are on their way to a session."""
        restore = self._restores.get(sequence)
        return 0 if restore is None else await restore.count_found()

    def abandon(self, sequence: CachedSequence) -> None:
        """A session has ended."""
        restore = self._restores.pop(sequence, None)
        if restore is not None:
            restore.abandon()
            self._send(lambda: self._waiting.discard(sequence))

    def abandon_all(self) -> None:
        """There is nobody to put blocks in any more."""
        self._is_closed = True
        for sequence in list(self._restores):
            self.abandon(sequence)

    async def close(self) -> None:
        """Ends all restores."""
        self.abandon_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _put(self, sequence: CachedSequence, index: int, numbers: Numbers) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[bool] = loop.create_future()

        def tell(success: bool) -> None:  # noqa: FBT001 - the result
            if not done.done():
                done.set_result(success)

        def put() -> None:
            success = self._insert(sequence, index, numbers)
            # The event loop may have ended with its process.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(tell, success)

        self._send(put)
        return done

    def _end(self, sequence: CachedSequence) -> None:
        del self._restores[sequence]
        self._send(lambda: self._release(sequence))

    # In the engine's thread.

    def offer(self, block_id: int, name: BlockName) -> None:
        """A block was published."""
        try:
            if self._archive.wants(name):
                self._archive.offer(name, self._model.read_block(block_id))
        except Exception:  # noqa: BLE001 - nobody needs the archive
            _log.exception("offer_failed")

    def _insert(self, sequence: CachedSequence, index: int, numbers: Numbers) -> bool:
        """Puts a block behind those that a session has; False when it should get no more."""
        if sequence not in self._waiting:
            return False
        sequence.take_prefix()
        num_blocks = len(sequence.block_ids)
        if num_blocks > index:
            return True  # another session has computed it meanwhile
        # Others may have taken the blocks before it.
        fill = partial(self._model.write_block, numbers=numbers)
        if num_blocks < index or not sequence.restore_block(fill):
            return False
        self.counters.num_blocks += 1
        return True

    def _release(self, sequence: CachedSequence) -> None:
        """Lets a session take what it has got in the way of all others."""
        if sequence in self._waiting:
            self._waiting.discard(sequence)
            sequence.release()
            self._resume(sequence)
