"""A stretch of network between a client and a server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
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

    running: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
        free_at = 0.0
        while data := await reader.read(2**14):
            free_at = max(free_at, perf_counter()) + len(data) / rate
            await asyncio.sleep(free_at - perf_counter())
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inside_reader, inside = await asyncio.open_connection("127.0.0.1", port)
        ways = (
            asyncio.create_task(copy(reader, inside, float("inf"))),
            asyncio.create_task(copy(inside_reader, writer, bytes_per_s)),
        )
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in (inside, writer):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
