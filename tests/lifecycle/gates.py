"""Models that stop where a test tells them to, and connections that can be cut or go silent."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import replace
from typing import Any

import torch

from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import PackedPass
from tests.stack import LoadedModel
from tests.waiting import until

_PATIENCE_S = 300
_PING = b"\0\0\x08\x06\0"
"""How a ping frame of HTTP/2 begins that is no answer."""


class Gate:
    """Lets forward passes through: all of them, or as many as it has permits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._permits: int | None = None
        self.is_holding = False
        """Whether a pass waits here."""
        self.num_passes = 0
        """Forward passes let through so far."""

    def allow(self, num_passes: int) -> None:
        """Lets so many more through, then holds the next one."""
        with self._changed:
            self._permits = num_passes
            self._changed.notify_all()

    def open(self) -> None:
        """Lets all through."""
        with self._changed:
            self._permits = None
            self._changed.notify_all()

    async def until_holding(self) -> None:
        """Returns once a pass waits here."""
        await until(lambda: self.is_holding)

    def enter(self) -> None:
        """Waits for a permit; in the engine's thread."""
        with self._changed:
            self.is_holding = self._permits == 0
            assert self._changed.wait_for(lambda: self._permits != 0, _PATIENCE_S)
            self.is_holding = False
            self.num_passes += 1
            if self._permits is not None:
                self._permits -= 1


class GatedModel:
    """A model behind a gate."""

    def __init__(self, model: CausalModel, gate: Gate) -> None:
        self._model = model
        self._gate = gate
        self.vocab_size = model.vocab_size
        self.hidden_size = model.hidden_size
        self.max_model_len = model.max_model_len
        self.engine_name = model.engine_name
        self.dtype_name = model.dtype_name
        self.device_name = model.device_name

        self.kv_bytes_per_block = model.kv_bytes_per_block

    def __getattr__(self, name: str) -> Any:
        """Whatever else the model has."""
        return getattr(self._model, name)

    def __copy__(self) -> "GatedModel":
        return GatedModel(copy(self._model), self._gate)

    def allocate(self, num_blocks: int) -> None:
        self._model.allocate(num_blocks)

    def forward(self, packed: PackedPass) -> torch.Tensor:
        self._gate.enter()
        return self._model.forward(packed)

    def forward_with_states(self, packed: PackedPass) -> tuple[torch.Tensor, torch.Tensor]:
        self._gate.enter()
        return self._model.forward_with_states(packed)


def gated(model: LoadedModel) -> tuple[LoadedModel, Gate]:
    """The model behind a gate of its own, which is open."""
    gate = Gate()
    return replace(model, model=GatedModel(model.model, gate)), gate


class Cable:
    """A TCP connection in two halves, which can be cut as by a lost network."""

    def __init__(self) -> None:
        self.address = ""
        self._writers: list[asyncio.StreamWriter] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self.num_pings = 0
        """Pings of clients that came through."""

    def freeze(self) -> None:
        """Lets nothing through any more, and leaves all connections up."""
        self._flows.clear()

    def thaw(self) -> None:
        """Lets everything through again, also what came meanwhile."""
        self._flows.set()

    def cut(self) -> None:
        """Ends all connections at once; neither side gets to say goodbye."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def cable_to(address: str) -> AsyncIterator[Cable]:
    """A way to `address` that can be cut or frozen."""
    cable = Cable()
    connections: list[asyncio.Task[None] | None] = []
    host, _, port = address.rpartition(":")

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_of_client: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await cable._flows.wait()
                writer.write(data)
                cable.num_pings += is_of_client and data.count(_PING)
                await writer.drain()
        writer.transport.abort()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        cable._writers.append(writer)
        await cable._flows.wait()
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        cable._writers.append(far_writer)
        await asyncio.gather(
            pump(reader, far_writer, is_of_client=True),
            pump(far_reader, writer, is_of_client=False),
        )

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    cable.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield cable
    finally:
        server.close()
        for _ in range(10):  # rounds of the loop in which what was just accepted gets to `connect`
            await asyncio.sleep(0)
        for connection in filter(None, connections):
            connection.cancel()
        await asyncio.gather(*filter(None, connections), return_exceptions=True)
        cable.cut()
        for writer in cable._writers:
            with suppress(OSError):
                await writer.wait_closed()
        await server.wait_closed()
