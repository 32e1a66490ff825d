"""A slow server is slow, and not lost; and a caller sees it in time to stop."""

from contextlib import aclosing
from dataclasses import replace

from forethought.store.blocks.block_store import BlockStore
from forethought.store.blocks.write_behind import WriteBehind
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from tests.store.blocks import FORMAT, a_chain, numbers_of
from tests.store.proxy import Network, proxied
from tests.store.servers import ValkeyServer

LARGE = replace(FORMAT, shape=(30, 2, 16, 192))
BYTES_PER_S = 1_250_000


async def test_a_slow_server_is_measured_and_nothing_fails(
    connection: StoreConnection, shared_server: ValkeyServer
):
    chain = a_chain(20)
    writer = WriteBehind(BlockStore(connection, LARGE))
    for block_id in chain:
        writer.offer(block_id, numbers_of(block_id, LARGE))
    await writer.close(timeout_s=20)
    async with proxied(shared_server.port, network=Network(BYTES_PER_S)) as port:
        # Far too short for all of it at once: 3.7 MB.
        slow = StoreConnection(ConnectionSettings(f"redis://127.0.0.1:{port}", timeout_s=2))
        store = BlockStore(slow, LARGE)
        assert await store.count_prefix(chain) == 20
        num_fetched = 0
        async with aclosing(store.fetch(chain)) as blocks:
            async for _ in blocks:
                num_fetched += 1
                rate = store.rate.bytes_per_s
                # Its estimate may be low on a busy machine, and never much too high.
                assert rate < 1.5 * BYTES_PER_S
        assert num_fetched == 20
        assert store.counters.num_failures == 0
        left_s = store.rate.seconds_for(20 * LARGE.num_bytes)
        assert left_s > 1.6
        await slow.close()
