"""The store as an engine's archive: composition, for the tiers that run an engine.

The engine does not know the store, nor the store the engine; this hands blocks from one to the
other. A store that is away is an archive with nothing in it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

import structlog

from forethought.engine.batching.engine import Engine
from forethought.engine.cache.block_archive import ComputeRate
from forethought.engine.cache.block_pool import BlockName
from forethought.engine.model.kv_layout import KVLayout, Numbers
from forethought.settings import EngineSettings
from forethought.store.blocks.block_codec import BlockFormat, BlockId
from forethought.store.blocks.block_store import BlockMode, BlockStore, BlockStoreSettings
from forethought.store.blocks.write_behind import WriteBehind, WriteBehindSettings
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.tier import ModelInfo

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 1.0
"""For a call. Blocks are large, and whoever waits for them has a limit of its own."""
_SECONDS_PER_TOKEN = 1e-3  # of a model that nobody has measured


class KVArchive:
    """`BlockArchive` over a store. To be made on the event loop.

    Args:
        connection: to the store; closed with the archive.
        block_format: of the model's blocks.
        reading: how blocks are kept, and whether they are written at all.
        writing: how much may wait to be written.
    """

    def __init__(
        self,
        connection: StoreConnection,
        block_format: BlockFormat,
        reading: BlockStoreSettings | None = None,
        writing: WriteBehindSettings | None = None,
    ) -> None:
        self._connection = connection
        self.store = BlockStore(connection, block_format, reading)
        self.writer = WriteBehind(self.store, writing)

    def wants(self, name: BlockName) -> bool:
        return self.writer.wants(_id(name))

    def offer(self, name: BlockName, numbers: Numbers) -> None:
        self.writer.offer(_id(name), numbers)

    async def count_prefix(self, names: Sequence[BlockName]) -> int:
        return await self.store.count_prefix([_id(name) for name in names])

    async def fetch(self, names: Sequence[BlockName]) -> AsyncGenerator[Numbers]:
        async with aclosing(self.store.fetch([_id(name) for name in names])) as blocks:
            async for numbers in blocks:
                yield numbers

    def seconds_for(self, num_blocks: int) -> float | None:
        return self.store.rate.seconds_for(num_blocks * self.store.block_format.num_bytes)

    async def close(self) -> None:
        """Writes what is queued, as far as a short time goes. To be called after the engine's."""
        await self.writer.close()
        await self._connection.close()
        _log.info(
            "kv_archive_closed",
            read=asdict(self.store.counters),
            written=asdict(self.writer.counters),
        )


def attach_archive(
    engine: Engine[Any, Any], info: ModelInfo, settings: EngineSettings
) -> KVArchive | None:
    """Gives an engine the archive that the settings name, if they do. On the event loop.

    Args:
        engine: before its first session.
        info: of its model.
        settings: of the tier.

    Returns:
        The archive, to be closed after the engine.

    Raises:
        InvalidArgumentError: the URL is none.
    """
    mode = BlockMode(settings.kv_store)
    if settings.store_url is None or mode is BlockMode.OFF:
        return None
    connection = StoreConnection(ConnectionSettings(settings.store_url, timeout_s=_TIMEOUT_S))
    archive = KVArchive(
        connection,
        block_format_of(engine.kv_layout, info),
        BlockStoreSettings(
            mode, ttl_s=settings.kv_store_ttl_s, max_value_bytes=settings.kv_store_max_value
        ),
        WriteBehindSettings(settings.kv_store_queue, settings.kv_store_memory_share),
    )
    engine.use_archive(archive, ComputeRate(_seconds_per_token(info)))
    layout = archive.store.block_format.layout
    _log.info("kv_archive", mode=mode.value, layout=layout, block_bytes=engine.kv_layout.num_bytes)
    return archive


def block_format_of(layout: KVLayout, info: ModelInfo) -> BlockFormat:
    """What the blocks of a model look like outside the engine."""
    return BlockFormat(info.model_fingerprint, layout.name, layout.dtype_name, layout.shape)


def _seconds_per_token(info: ModelInfo) -> float:
    """Of a prompt, as measured when the tier started."""
    if not info.pass_costs:
        return _SECONDS_PER_TOKEN
    largest = info.pass_costs[-1]
    return largest.forward_ns / largest.num_tokens / 1e9


def _id(name: BlockName) -> BlockId:
    return BlockId(name.key, name.token_ids)
