"""Keys and values in Redis: finding and fetching what a sequence begins with.

Losing the store, or finding rubbish in it, is a miss and is counted; nothing here raises for it.
A fetch comes in pieces, one of them always on its way while the caller is busy with the one before,
and the caller may stop at any block. Pieces are sized by the measured rate, so that each is well
within the time limit of a call, however slow the store.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from forethought.errors import StoreUnavailableError
from forethought.store.blocks.block_codec import (
    VERSION,
    BlockFormat,
    BlockId,
    Numbers,
    decode_block,
    encoded_len,
)
from forethought.store.blocks.known_blocks import KnownBlocks
from forethought.store.blocks.transfer_rate import TransferRate
from forethought.store.server.connection import StoreConnection

_MAX_QUESTIONS = 1024  # keys asked for in one pipeline


class BlockMode(Enum):
    """What a tier does with the store."""

    OFF = "off"
    READ_ONLY = "read-only"
    READ_WRITE = "read-write"


@dataclass(frozen=True, slots=True)
class BlockStoreSettings:
    """How blocks are kept and moved."""

    mode: BlockMode = BlockMode.READ_WRITE
    prefix: str = "forethought"
    """Begins all keys."""
    ttl_s: float = 3600.0
    """Time after which a block goes that nobody asked for."""
    max_value_bytes: int = 16 * 2**20
    """Larger blocks are neither written nor read."""
    max_piece_bytes: int = 4 * 2**20
    """Most that one call fetches or writes, if that is more than one block."""
    piece_s: float = 0.1
    """Time that one call should take at the measured rate. Below the connection's `timeout_s`."""
    max_known_blocks: int = 65536
    """Blocks remembered as stored, some 200 bytes each."""


@dataclass(slots=True)
class ReadCounters:
    """What became of reads since the start."""

    num_asked: int = 0  # blocks looked for
    num_found: int = 0  # of these, there in an unbroken chain
    num_fetched: int = 0  # blocks fetched
    num_refused: int = 0  # values that are not what they should be
    num_missing: int = 0  # values that were gone when fetched
    num_failures: int = 0  # calls that failed
    num_bytes: int = 0  # of values fetched


class BlockStore:
    """The blocks of one format. Belongs to one event loop.

    Args:
        connection: with a time limit fit for `piece_s` and for one block.
        block_format: of all its blocks.
        settings: how.
    """

    def __init__(
        self,
        connection: StoreConnection,
        block_format: BlockFormat,
        settings: BlockStoreSettings | None = None,
    ) -> None:
        self.connection = connection
        self.block_format = block_format
        self.settings = settings or BlockStoreSettings()
        self.rate = TransferRate()
        """Of fetches."""
        self.counters = ReadCounters()
        self.known = KnownBlocks(self.settings.max_known_blocks, self.settings.ttl_s / 2)
        self._key_base = f"{self.settings.prefix}:kv{VERSION}:{block_format.key_hash}:"

    def key(self, block_id: BlockId) -> str:
        """Where a block is."""
        return self._key_base + block_id.block_hash.hex()

    def fits(self, block_id: BlockId) -> bool:
        """Whether a block is within the limit on values."""
        size = encoded_len(self.block_format, len(block_id.token_ids))
        return size <= self.settings.max_value_bytes

    async def count_prefix(self, block_ids: Sequence[BlockId]) -> int:
        """How many blocks of a chain are stored, from its first on without a gap.

        Those that are live on for `ttl_s`, if the store may be written to.
        """
        if self.settings.mode is BlockMode.OFF:
            return 0
        self.counters.num_asked += len(block_ids)
        num_found = 0
        for start in range(0, len(block_ids), _MAX_QUESTIONS):
            asked = block_ids[start : start + _MAX_QUESTIONS]
            found = await self.are_stored(asked)
            length = found.index(False) if False in found else len(found)
            num_found += length
            if length < len(asked):
                break
        self.counters.num_found += num_found
        return num_found

    async def are_stored(self, block_ids: Sequence[BlockId]) -> list[bool]:
        """Which of the blocks are there. None, if the store does not say."""
        keys = [self.key(block_id) for block_id in block_ids if self.fits(block_id)]
        if len(keys) < len(block_ids):
            return [False] * len(block_ids)
        writable = self.settings.mode is BlockMode.READ_WRITE
        ttl_ms = round(1000 * self.settings.ttl_s)

        async def call(client: Redis) -> list[bool]:
            async with client.pipeline(transaction=False) as pipeline:
                for key in keys:
                    # To set its end asks whether it is there too.
                    pipeline.pexpire(key, ttl_ms) if writable else pipeline.exists(key)
                return [bool(answer) for answer in await pipeline.execute()]

        began = time.perf_counter()
        try:
            found = await self.connection.run(call)
        except StoreUnavailableError:
            self.counters.num_failures += 1
            return [False] * len(block_ids)
        self.rate.answered(time.perf_counter() - began)
        for block_id, is_there in zip(block_ids, found, strict=True):
            if is_there:
                self.known.add(block_id.block_hash)
            else:
                self.known.discard(block_id.block_hash)
        return found

    async def fetch(self, block_ids: Sequence[BlockId]) -> AsyncGenerator[Numbers]:
        """The keys and values of a chain's blocks, in order, up to the first that is not there.

        To stop early, close it: `async with aclosing(store.fetch(…)) as blocks`.
        """
        if self.settings.mode is BlockMode.OFF or not all(map(self.fits, block_ids)):
            return
        coming = self._ask_for(block_ids)
        try:
            while coming is not None:
                values = await coming.values
                asked, rest = coming.block_ids, coming.rest
                coming = self._ask_for(rest) if all(values) else None
                for block_id, value in zip(asked, values, strict=True):
                    numbers = await self._take(block_id, value)
                    if numbers is None:
                        return
                    yield numbers
        finally:
            if coming is not None:
                coming.values.cancel()
                await asyncio.wait({coming.values})

    def piece_len(self, rate: TransferRate) -> int:
        """Blocks to move in one call; one, as long as nothing is known."""
        size = self.block_format.num_bytes
        num_bytes = (rate.bytes_per_s or 0.0) * self.settings.piece_s
        return max(int(min(num_bytes, self.settings.max_piece_bytes) / size), 1)

    def _ask_for(self, block_ids: Sequence[BlockId]) -> "_Piece | None":
        """Starts to fetch the first of the blocks; None if there are none."""
        if not block_ids:
            return None
        length = self.piece_len(self.rate)
        asked = block_ids[:length]
        return _Piece(asked, block_ids[length:], asyncio.create_task(self._values(asked)))

    async def _values(self, block_ids: Sequence[BlockId]) -> list[bytes | None]:
        """The values of some blocks, empty for those that are not there; None if a call fails.

        No more than a block's length comes of each, and one byte: a longer value is no block, and
        is not waited for.
        """

        async def call(client: Redis) -> list[bytes]:
            async with client.pipeline(transaction=False) as pipeline:
                for block_id in block_ids:
                    length = encoded_len(self.block_format, len(block_id.token_ids))
                    pipeline.getrange(self.key(block_id), 0, length)
                return list(map(_value, await pipeline.execute(raise_on_error=False)))

        began = time.perf_counter()
        try:
            values = await self.connection.run(call)
        except StoreUnavailableError as error:
            self.counters.num_failures += 1
            if error.metadata.get("cause") == TimeoutError.__name__:
                # At least that slow: whoever plans with the rate should know.
                size = len(block_ids) * self.block_format.num_bytes
                self.rate.transferred(size, time.perf_counter() - began)
            return [None] * len(block_ids)
        num_bytes = sum(map(len, values))
        self.counters.num_bytes += num_bytes
        if num_bytes:
            self.rate.transferred(num_bytes, time.perf_counter() - began)
        return list(values)

    async def _take(self, block_id: BlockId, value: bytes | None) -> Numbers | None:
        """The numbers of a value, if it is what it should be."""
        numbers = decode_block(self.block_format, block_id, value)
        if numbers is not None:
            self.counters.num_fetched += 1
            self.known.add(block_id.block_hash)
            return numbers
        self.known.discard(block_id.block_hash)
        if value:
            self.counters.num_refused += 1
        else:
            self.counters.num_missing += 1
        if value is not None:
            await self._remove(block_id)
        return None

    async def _remove(self, block_id: BlockId) -> None:
        """Makes room for a value that can be read: writers leave alone what is there, and what is
        there may be empty."""
        if self.settings.mode is not BlockMode.READ_WRITE:
            return
        key = self.key(block_id)

        async def call(client: Redis) -> None:
            await client.unlink(key)

        with suppress(StoreUnavailableError):
            await self.connection.run(call)


def _value(answer: bytes | Exception) -> bytes:
    """What was found under a key: nothing if it is not there, one byte if it is no string."""
    if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
        return b"?"
    if isinstance(answer, Exception):
        raise answer
    return answer


@dataclass(frozen=True, slots=True)
class _Piece:
    """Values on their way."""

    block_ids: Sequence[BlockId]
    rest: Sequence[BlockId]  # what comes behind them
    values: asyncio.Task[list[bytes | None]]
