"""A stretch of network between a client and a server."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ssl import SSLContext
from time import perf_counter

PIECE_S = 0.05
"""A piece that travels takes so long at most, so that a change of pace is soon noticed."""


@dataclass
class Network:
    """How answers travel. May change at any time."""

    bytes_per_s: float = float("inf")
    latency_s: float = 0.0

    @property
    def piece_bytes(self) -> int:
        return int(min(max(self.bytes_per_s * PIECE_S, 1), 2**14))


@asynccontextmanager
async def proxied(
    port: int,
    *,
    network: Network | None = None,
    listen_port: int = 0,
    tls: SSLContext | None = None,
) -> AsyncGenerator[int]:
    """A port that leads to another one of this machine.

    Args:
        port: where it leads.
        network: how answers come; at once unless told.
        listen_port: the port it is; 0 takes a free one.
        tls: what the client has to speak.
    """

    network = network or Network()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inside_reader, inside = await asyncio.open_connection("127.0.0.1", port)
        except OSError:  # the server is down
            writer.close()
            return
        ways = (
            asyncio.create_task(_copy(reader, inside)),
            asyncio.create_task(_carry(inside_reader, writer, network)),
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

    server = await asyncio.start_server(accept, "127.0.0.1", listen_port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**14):
        writer.write(data)
        await writer.drain()


async def _carry(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, network: Network
) -> None:
    """Pieces leave one after the other at their pace, and each is as long on its way."""
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1000)

    async def arrive() -> None:
        while True:
            sent, data = await pieces.get()
            if not data:
                return
            await asyncio.sleep(sent + network.latency_s - perf_counter())
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    free_at = 0.0
    try:
        while data := await reader.read(network.piece_bytes):
            free_at = max(free_at, perf_counter()) + len(data) / network.bytes_per_s
            await asyncio.sleep(free_at - perf_counter())
            await pieces.put((free_at, data))
        await pieces.put((free_at, b""))
        await arriving
    finally:
        arriving.cancel()
