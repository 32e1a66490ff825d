"""What a server takes from callers that it does not know."""

import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from forethought.errors import InvalidArgumentError
from forethought.rpc.calls import interceptors
from forethought.rpc.connections.channels import CallerLimits, open_channel
from forethought.rpc.serving.server import LateServices, Server, ServerOptions
from forethought.rpc.status import error_from_rpc
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from orchestrator.settings import OrchestratorSettings
from tests.errors.refusals import refusal_of


class Echo(GenerationServiceServicer):
    """Answers with as many texts as it was given, or refuses."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.refuse: Callable[[Any], None] = lambda _: None

    async def Tokenize(self, request, context):  # noqa: N802 - gRPC names it
        self.num_calls += 1
        self.refuse(request)
        return pb.TokenizeResponse(texts=[request.text])


@asynccontextmanager
async def serving(
    servicer: Echo, callers: CallerLimits | None = None, max_message_bytes: int | None = None
) -> AsyncIterator[GenerationServiceStub]:
    server = Server(ServerOptions("127.0.0.1:0", (), 1.0, callers=callers))
    await server.start()

    async def load(services: LateServices) -> None:
        if max_message_bytes is not None:
            services.max_message_bytes = max_message_bytes
        add_GenerationServiceServicer_to_server(servicer, services)

    await server.load(load)
    try:
        async with open_channel(f"127.0.0.1:{server.port}") as channel:
            yield GenerationServiceStub(channel)
    finally:
        await server.drain()


def text(num_bytes: int) -> pb.TokenizeRequest:
    return pb.TokenizeRequest(text="a" * num_bytes)


async def test_a_message_that_is_larger_than_the_server_receives_is_refused():
    echo = Echo()
    async with serving(echo, CallerLimits(max_message_bytes=2**16)) as stub:
        refusal = await refusal_of(stub.Tokenize(text(15_000_000)))
        assert await stub.Tokenize(text(60_000))
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert "15000005 vs. 65536" in refusal.message
    assert echo.num_calls == 1


@pytest.mark.parametrize("most", [2**16, 2**24])
async def test_a_client_is_told_that_its_message_is_too_large_and_not_to_try_again(most):
    """By the server, and by itself."""
    async with serving(Echo(), CallerLimits(max_message_bytes=most)) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Tokenize(text(most))
    error = error_from_rpc(caught.value)
    assert isinstance(error, InvalidArgumentError)
    (said,) = error.violations.values()
    assert said.endswith(f"at most {most} are taken")


async def test_a_message_that_is_larger_than_the_services_take_is_refused_unread():
    echo = Echo()
    async with serving(echo, max_message_bytes=1000) as stub:
        refusal = await refusal_of(stub.Tokenize(text(1001)))
        assert await stub.Tokenize(text(900))
    assert refusal.violations == {"request": "has 1004 bytes, at most 1000 are taken"}
    assert echo.num_calls == 1


async def test_large_metadata_is_refused_and_the_next_call_served():
    echo = Echo()
    async with serving(echo, CallerLimits()) as stub:
        metadata = grpc.aio.Metadata(("x-large", "a" * 200_000))
        refusal = await refusal_of(stub.Tokenize(text(1), metadata=metadata, timeout=20))
        assert await stub.Tokenize(text(1), timeout=20)
    assert refusal.code == "RESOURCE_EXHAUSTED"
    assert echo.num_calls == 1


async def test_a_refused_request_is_freed_before_its_client_hears_of_it(monkeypatch):
    class Held:
        """Lives as long as the handler's frame."""

    seen: list[weakref.ref[Held]] = []
    alive: list[bool] = []

    def refuse(_: Any) -> None:
        held = Held()
        seen.append(weakref.ref(held))
        raise InvalidArgumentError({"text": "is refused"})

    echo = Echo()
    echo.refuse = refuse

    async def watched_abort(context: Any, error: Exception) -> None:
        alive.append(seen[0]() is not None)
        await real_abort(context, error)

    real_abort = interceptors.abort
    monkeypatch.setattr(interceptors, "abort", watched_abort)
    gc.disable()
    try:
        async with serving(echo) as stub:
            await refusal_of(stub.Tokenize(text(1)))
    finally:
        gc.enable()
    assert alive == [False]


@pytest.mark.parametrize(
    ("words", "size"), [([], 2**18), (["--max-request-size", "4MiB"], 4 * 2**20)]
)
def test_the_largest_message_is_a_setting(words, size):
    settings = OrchestratorSettings.from_command_line(["--model", "somewhere", *words])
    assert settings.max_request_size == size
