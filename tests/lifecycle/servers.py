"""Tiers that come and go on one address, and a draft tier that says whatever a test wants."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from typing import Any

import grpc

from draft_service.proposer import Proposer
from draft_service.servicer import DraftServicer
from forethought.errors import ListenError
from forethought.rpc.connections.channels import KeepAlive
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.v1.draft_pb2 import SpeculateRequest
from forethought.v1.draft_pb2_grpc import add_DraftServiceServicer_to_server
from forethought.v1.target_pb2_grpc import add_TargetServiceServicer_to_server
from target_service.servicer import TargetServicer
from tests.stack import LIMITS, LoadedModel
from tests.waiting import until


async def stop_abruptly(server: Server) -> None:
    """Ends all calls and the listener at once, as a process that dies."""
    await server._server.stop(None)


@asynccontextmanager
async def serving_at(
    address: str, add_services: Callable[[Any], None], keep_alive: KeepAlive | None = None
) -> AsyncIterator[Server]:
    """A server on an address that another one had before."""

    async def start() -> Server | None:
        server = Server(ServerOptions(address, (), 1.0, keep_alive or KeepAlive()))
        try:
            await server.start()
        except ListenError:  # the port is not free yet
            return None
        return server

    server = await until(start)

    async def load(services: Any) -> None:
        add_services(services)

    await server.load(load)
    try:
        yield server
    finally:
        await server.drain()


@asynccontextmanager
async def draft_tier_at(address: str, proposer: Proposer) -> AsyncIterator[Server]:
    """A new draft tier; it knows nothing of the sessions of the last one."""
    servicer = DraftServicer(proposer)
    serving = serving_at(address, lambda s: add_DraftServiceServicer_to_server(servicer, s))
    async with serving as server:
        yield server
    await proposer.close()


@asynccontextmanager
async def target_tier_at(
    address: str, target: LoadedModel, keep_alive: KeepAlive | None = None
) -> AsyncIterator[Server]:
    """A new target tier; it knows nothing of the sessions of the last one."""
    servicer = TargetServicer(copy(target.model), target.info, LIMITS)
    async with serving_at(
        address, lambda s: add_TargetServiceServicer_to_server(servicer, s), keep_alive
    ) as server:
        yield server
    await servicer.close()


@asynccontextmanager
async def liar_at(address: str, answer: Callable[[SpeculateRequest], Any]) -> AsyncIterator[None]:
    """A draft tier that sends what `answer` returns: a message, bytes, or None for the end."""

    async def speculate(requests: AsyncIterator[SpeculateRequest], _context: Any) -> Any:
        async for request in requests:
            response = answer(request)
            if response is None:
                return
            yield response if isinstance(response, bytes) else response.SerializeToString()

    handler = grpc.stream_stream_rpc_method_handler(
        speculate, request_deserializer=SpeculateRequest.FromString
    )
    service = grpc.method_handlers_generic_handler(
        "forethought.v1.DraftService", {"Speculate": handler}
    )
    async with serving_at(address, lambda s: s.add_generic_rpc_handlers((service,))):
        yield
