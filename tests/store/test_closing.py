"""A connection that is closed leaves nothing open, whatever is under way."""

import asyncio
import gc

import pytest

from forethought.store.server.connection import ConnectionSettings, StoreConnection


async def call_and_close(url: str, num_steps: int, *, is_cancelled: bool) -> None:
    """Closes a connection `num_steps` of the event loop after calls have begun."""
    connection = StoreConnection(ConnectionSettings(url, timeout_s=10))
    calls = [
        asyncio.create_task(connection.run(lambda redis: redis.echo("text"))) for _ in range(3)
    ]
    for _ in range(num_steps):
        await asyncio.sleep(0)
    if is_cancelled:
        for call in calls:
            call.cancel()
    await connection.close()
    await asyncio.wait(calls, timeout=10)


async def pipeline_and_close(url: str, num_steps: int) -> None:
    """The same after the shared connection has begun to be made."""
    connection = StoreConnection(ConnectionSettings(url, timeout_s=10))
    await connection.run(lambda redis: redis.echo("text"))
    assert await connection.pipelined(("ECHO", "text")) is None
    for _ in range(num_steps):
        await asyncio.sleep(0)
    await connection.close()


@pytest.mark.parametrize("way", ["served", "cancelled", "pipelined"])
def test_a_connection_closed_at_any_moment_leaves_nothing_open(shared_server, redis, way):
    for num_steps in range(1, 90):
        if way == "pipelined":
            asyncio.run(pipeline_and_close(shared_server.url, num_steps))
        else:
            cancels = way == "cancelled"
            asyncio.run(call_and_close(shared_server.url, num_steps, is_cancelled=cancels))
    gc.collect()  # what was left open warns, and fails the test
