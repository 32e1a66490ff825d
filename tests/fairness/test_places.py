"""Places for requests: who gets one, and when it is given back."""

import asyncio
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest

from forethought.client import GenerationClient
from forethought.errors import (
    DurationExceededError,
    ForethoughtError,
    OverloadedError,
    UnreadStreamError,
)
from forethought.rpc import status
from forethought.rpc.codecs.generation.request import request_to_proto
from forethought.rpc.status import error_from_rpc
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from orchestrator.request.admission import Admission, AdmissionLimits
from tests.lifecycle.requests import asking
from tests.lifecycle.test_cancellation import HEAVY_ANSWER, NARROW
from tests.simulated_time import in_simulated_time
from tests.stack import LoadedModel, Stack, generate, running_stack
from tests.waiting import until, until_nothing_is_held

SHORT = asking(max_tokens=4)
ENDLESS = asking(max_tokens=4000)


@asynccontextmanager
async def a_stack(target: LoadedModel, **limits: Any) -> AsyncIterator[Stack]:
    admission = AdmissionLimits(**{"unread_timeout_s": 60, "yield_after_s": 60, **limits})
    async with running_stack(target, admission=admission, lookups=[target.ngram()]) as stack:
        yield stack


@asynccontextmanager
async def unread(stack: Stack, num_streams: int) -> AsyncIterator[list[Any]]:
    """Streams of long answers that have begun, and of which nothing more is read."""
    request = request_to_proto(HEAVY_ANSWER)
    async with grpc.aio.insecure_channel(stack.address, options=NARROW) as channel:
        stub = GenerationServiceStub(channel)
        calls = [stub.Generate(request) for _ in range(num_streams)]
        for call in calls:
            await call.read()
        yield calls
        for call in calls:
            call.cancel()


async def end_of(call: Any) -> Exception:
    """What a stream ends with that is read again."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read_to_end(call)
    return error_from_rpc(caught.value)


async def read_to_end(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def answer_once_admitted(client: GenerationClient, **changes: Any) -> Any:
    async def answer() -> Any:
        try:
            return await generate(client, replace(SHORT, **changes))
        except OverloadedError:
            return None

    return await until(answer)


async def test_a_stream_that_nobody_reads_ends_and_frees_what_it_held(long_target):
    async with a_stack(long_target, unread_timeout_s=0.3) as stack, unread(stack, 1) as calls:
        await until_nothing_is_held(stack)
        error = await end_of(calls[0])
    assert isinstance(error, UnreadStreamError)
    assert error.code == "DEADLINE_EXCEEDED"


@in_simulated_time
async def test_a_stream_that_is_read_slowly_goes_on():
    admission = Admission(AdmissionLimits(unread_timeout_s=5.0, yield_after_s=5.0, max_requests=1))
    async with admission.place("slow") as place:
        for _ in range(100):
            await place.deliver(asyncio.sleep(4.9))
            with pytest.raises(OverloadedError):
                async with admission.place("other"):
                    pass


async def test_an_unread_stream_gives_way_to_a_request_that_needs_its_place(long_target):
    async with (
        a_stack(long_target, max_requests=1, yield_after_s=0.1) as stack,
        unread(stack, 1) as [call],
    ):
        answer = await answer_once_admitted(stack.client)
        ended = await end_of(call)
    assert len(answer.tokens) == 4
    assert isinstance(ended, UnreadStreamError)
    assert "place" in ended.message


class TestOfManyUnreadStreams:
    """Without a network, so that it is known which stream is unread for how long."""

    @in_simulated_time
    async def test_one_of_the_tenant_itself_gives_way_first(self):
        assert await self.who_gives_way(["a", "b", "b", "a"], newcomer="a") == ["a"]

    @in_simulated_time
    async def test_one_of_the_largest_holder_gives_way_to_a_newcomer(self):
        assert await self.who_gives_way(["small", "large", "large"], newcomer="new") == ["large"]

    @in_simulated_time
    async def test_none_of_a_smaller_holder_gives_way_to_the_largest(self):
        held = ["small", *["large"] * 3]
        unread = ("small",)
        assert not await self.who_gives_way(held, newcomer="large", unread=unread, max_requests=5)

    @in_simulated_time
    async def test_none_gives_way_while_there_is_room(self):
        assert await self.who_gives_way(["a", "a"], newcomer="b", max_requests=4) == []

    async def who_gives_way(
        self,
        held: Sequence[str],
        *,
        newcomer: str,
        unread: Container[str] | None = None,
        max_requests: int = 0,
    ) -> list[str]:
        """The tenants whose requests end as another one begins."""
        admission = Admission(AdmissionLimits(max_requests or len(held), yield_after_s=0.0))
        gone: list[str] = []
        begun: list[str] = []

        async def stream(tenant: str) -> None:
            try:
                async with admission.place(tenant) as place:
                    begun.append(tenant)
                    if unread is None or tenant in unread:
                        await place.deliver(asyncio.Event().wait())
                    await asyncio.Event().wait()
            except UnreadStreamError:
                gone.append(tenant)

        tasks = [asyncio.create_task(stream(tenant)) for tenant in held]
        await until(lambda: len(begun) == len(held))
        with suppress(OverloadedError):
            async with admission.place(newcomer):
                await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        return gone


async def test_a_tenant_with_fewer_places_gets_in_where_the_largest_is_refused(long_target):
    async with a_stack(long_target, max_requests=4) as stack:
        running = [stack.client.generate(replace(ENDLESS, tenant="large")) for _ in range(3)]
        for events in running:
            await anext(events)
        with pytest.raises(OverloadedError, match="3 of 4 places"):
            await generate(stack.client, replace(SHORT, tenant="large"))
        assert await generate(stack.client, replace(SHORT, tenant="small"))
        for events in running:
            await events.aclose()


async def test_no_stream_that_is_read_gives_way(long_target):
    async with a_stack(long_target, max_requests=1, yield_after_s=1.0) as stack:
        events = stack.client.generate(ENDLESS)
        await anext(events)
        reading = asyncio.create_task(read_on(events))
        with pytest.raises(OverloadedError):
            await generate(stack.client, replace(SHORT, tenant="other"))
        assert not reading.done()
        reading.cancel()


async def test_a_request_that_takes_longer_than_the_deployment_allows_is_ended(long_target):
    async with a_stack(long_target, max_duration_s=0.3) as stack:
        with pytest.raises(DurationExceededError, match=r"0\.3 s") as caught:
            await read_on(stack.client.generate(ENDLESS))
        await until_nothing_is_held(stack)
    assert caught.value.code == "DEADLINE_EXCEEDED"


async def test_a_prompt_that_takes_longer_than_the_deployment_allows_is_ended(long_target):
    async with a_stack(long_target, max_duration_s=0.05) as stack:
        with pytest.raises(DurationExceededError):
            await read_on(stack.client.generate(replace(SHORT, prompt=[3, 4, 5] * 1200)))
        await until_nothing_is_held(stack)


async def read_on(events: Any) -> None:
    async for _ in events:
        pass


async def test_a_call_that_ends_unread_does_not_wait_for_its_client_for_ever(
    long_target, monkeypatch
):
    monkeypatch.setattr(status, "STATUS_TIMEOUT_S", 0.1)
    async with a_stack(long_target, unread_timeout_s=0.1) as stack, unread(stack, 1) as [call]:
        await asyncio.wait_for(stack.server._running.all_ended(), 20)
        assert isinstance(await end_of(call), ForethoughtError)


async def test_hundreds_of_calls_that_are_cancelled_at_once_leave_every_place(long_target):
    async with (
        a_stack(long_target, max_requests=3) as stack,
        grpc.aio.insecure_channel(stack.address, options=NARROW) as channel,
    ):
        stub = GenerationServiceStub(channel)
        first = stub.Generate(request_to_proto(ENDLESS))
        await first.read()
        others = [stub.Generate(request_to_proto(ENDLESS)) for _ in range(300)]
        await asyncio.sleep(0)
        for call in (first, *others):
            call.cancel()
        await until_nothing_is_held(stack)
        answers = [answer_once_admitted(stack.client) for _ in range(3)]
        assert len(await asyncio.gather(*answers)) == 3
