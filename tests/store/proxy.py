"""A stretch of network between a client and a server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from ssl import SSLContext
from time import perf_counter


@asynccontextmanager
async def proxied(
    port: int, *, bytes_per_s: float = float("inf"), tls: SSLContext | None = None
) -> AsyncGenerator[int]:
    """A port that leads to another one of this machine.

    Args:
        port: where it leads.
        bytes_per_s: how fast answers come at most.
        tls: what the client has to speak.
    """

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        free_at = 0.0
        while data := await reader.read(2**14):
            free_at = max(free_at, perf_counter()) + len(data) / rate
            await asyncio.sleep(free_at - perf_counter())
            writer.write(data)
            await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(
            copy(reader, inside[1], float("inf")), copy(inside[0], writer, bytes_per_s)
        )

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield server.sockets[0].getsockname()[1]
