"""Many clients at a time: none loses an event, and those that wait hold up nobody."""

import asyncio
import json

import pytest

from forethought.generation import (
    Finished,
    FinishReason,
    SpeculationStatistics,
    Started,
    Token,
)
from forethought.rpc.codecs.generation.events import response_to_proto
from forethought.sampling.types import TokenOrigin
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import (
    GenerationServiceServicer,
    add_GenerationServiceServicer_to_server,
)
from gateway.web import streaming
from gateway.web.streaming import ClientGoneError, EventStream
from tests.gateway.answers import CHAT, chat, events_of
from tests.gateway.conftest import running_gateway
from tests.stack import running_server
from tests.waiting import until

IDLE = "wait"
TOKENS_A_ROUND = 3


class ScriptedService(GenerationServiceServicer):
    """Answers as many tokens as are asked for, some of them only when they are let."""

    def __init__(self):
        self.num_waiting = 0
        self.may_go_on = asyncio.Event()

    async def GetModelInfo(self, request, context):  # noqa: N802
        return pb.GenerationServiceGetModelInfoResponse()

    async def Generate(self, request, context):  # noqa: N802
        yield response_to_proto([Started("s", 1, 2, "m")])
        if request.conversation.messages[0].content == IDLE:
            self.num_waiting += 1
            await self.may_go_on.wait()
        num = request.params.max_tokens
        tokens = [Token(i, i, f"{i} ", TokenOrigin.BONUS, None, 0.5) for i in range(num)]
        for first in range(0, num, TOKENS_A_ROUND):
            yield response_to_proto(tokens[first : first + TOKENS_A_ROUND])
            await asyncio.sleep(0)
        yield response_to_proto(
            [Finished(FinishReason.LENGTH, 2, num, SpeculationStatistics(), 1, 2)]
        )


async def texts_of_a_stream(url, said, num_tokens):
    """The text of each event of a client with a connection of its own."""
    host, port = url.removeprefix("http://").split(":")
    asked = chat(messages=[{"role": "user", "content": said}], max_tokens=num_tokens, stream=True)
    body = json.dumps(asked).encode()
    reader, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status = await reader.readuntil(b"\r\n\r\n")
    assert b" 200 " in status.splitlines()[0], status
    chunks = []
    while size := int(await reader.readline(), 16):
        chunks.append((await reader.readexactly(size + 2))[:-2])
    writer.close()
    events = b"".join(chunks).decode()
    _, *tokens, closing = [each["choices"][0] for each in events_of(events)]
    assert closing["finish_reason"] == "length"
    return [each["delta"]["content"] for each in tokens]


@pytest.mark.parametrize(
    ("num_idle", "num_busy", "num_tokens"),
    [(24, 8, 60), pytest.param(500, 64, 256, marks=pytest.mark.slow)],
)
async def test_no_client_of_many_loses_an_event(num_idle, num_busy, num_tokens):
    service = ScriptedService()
    expected = [f"{index} " for index in range(num_tokens)]
    async with (
        running_server(lambda s: add_GenerationServiceServicer_to_server(service, s)) as server,
        running_gateway(f"127.0.0.1:{server.port}") as url,
        asyncio.TaskGroup() as group,
    ):

        def begin(said):
            return group.create_task(texts_of_a_stream(url, said, num_tokens))

        idle = [begin(IDLE) for _ in range(num_idle)]
        await until(lambda: service.num_waiting == num_idle)
        busy = [begin("go on") for _ in range(num_busy)]
        assert [await each for each in busy] == [expected] * num_busy
        assert not any(each.done() for each in idle)
        service.may_go_on.set()
        assert [await each for each in idle] == [expected] * num_idle


async def never(*_):
    await asyncio.Event().wait()


class Named:
    """Writes each event as its name."""

    def on(self, event):
        return event

    def end(self):
        return b"the end"


async def test_events_that_come_together_leave_in_one_write():
    async def events():
        for batch in ([b"started"], [b"first ", b"second ", b"third"], [b""], [b"finished"]):
            yield batch

    sent = []

    async def send(message):
        sent.append((message.get("body"), message.get("more_body")))

    await EventStream(events(), Named())({}, never, send)
    assert sent == [
        (None, None),
        (b"started", True),
        (b"first second third", True),
        (b"finished", True),
        (b"the end", False),
    ]


async def test_a_client_that_reads_nothing_has_left(monkeypatch):
    monkeypatch.setattr(streaming, "UNREAD_S", 0.01)
    has_ended = False

    async def events():
        nonlocal has_ended
        try:
            while True:
                yield [b"data: {}\n\n"]
                await asyncio.sleep(0)
        finally:
            has_ended = True

    async def send(message):
        if message["type"] == "http.response.body":
            await never()

    with pytest.raises(ClientGoneError):
        await EventStream(events(), Named())({}, never, send)
    assert has_ended
