"""What a connection costs the gateway before it has asked for anything."""

import asyncio
from contextlib import asynccontextmanager

import pytest
import uvicorn
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from gateway.web import connection
from gateway.web.connection import MAX_HEAD_BYTES
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def connected(url: str):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def answer_to_the_end(reader: asyncio.StreamReader) -> bytes:
    """Until the gateway closes the connection."""
    async with asyncio.timeout(30):
        return await reader.read()


@pytest.mark.parametrize("piece", [b"a", b"a: b\r\nc"])
async def test_a_head_without_end_is_refused(url, http, piece):
    async with connected(url) as (reader, writer):
        writer.write(HEAD + b"X-A: ")
        writer.write(piece * (1 + MAX_HEAD_BYTES // len(piece)))
        answer = await answer_to_the_end(reader)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"head_too_large"' in answer
    assert (await http.get("/health")).status_code == 200


async def test_a_large_body_is_no_large_head(url, http):
    body = {"prompt": "a" * 50_000, "max_tokens": 1}
    for _ in range(3):
        assert (await http.post("/v1/completions", json=body)).json()["error"]["param"] == "prompt"


@pytest.mark.parametrize(
    ("begun", "limit"),
    [
        (b"", "HEAD_S"),
        (b"\r\n", "HEAD_S"),
        (HEAD, "HEAD_S"),
        (HEAD + b"Content-Length: 9\r\n\r\n", "BODY_S"),
    ],
)
async def test_a_request_that_does_not_come_in_time_is_refused(monkeypatch, url, begun, limit):
    monkeypatch.setattr(connection, limit, 0.05)
    with capture_logs() as logs:
        async with connected(url) as (reader, writer):
            writer.write(begun)
            answer = await answer_to_the_end(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert not [each for each in logs if each["log_level"] == "error"]


async def test_a_body_that_goes_on_after_its_answer_is_cut_off(monkeypatch, url):
    monkeypatch.setattr(connection, "BODY_S", 0.05)
    async with connected(url) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\na")
        answer = await answer_to_the_end(reader)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_next_head_that_is_late_does_not_end_the_answer_before_it(monkeypatch, url):
    body = b'{"prompt": "a", "max_tokens": 200, "ignore_eos": true, "stream": true}'
    async with connected(url) as (reader, writer):
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr(connection, "HEAD_S", 0.01)
        writer.write(HEAD)
        answer = await answer_to_the_end(reader)
    stream, _, late = answer.partition(b"data: [DONE]")
    assert b"HTTP/1.1 408 " not in stream
    assert late.count(b"HTTP/1.1 408 ") == 1


async def test_a_body_behind_an_answer_has_its_whole_time_once_that_is_given(monkeypatch):
    is_late, may_answer = asyncio.Event(), asyncio.Event()

    class Watched(connection.BoundedProtocol):
        def _late(self) -> None:
            super()._late()
            is_late.set()

    async def app(scope, receive, send):
        is_first = scope["path"] == "/first"
        while (await receive())["more_body"]:
            pass
        if is_first:
            await may_answer.wait()
        length = [(b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body"})

    config, state = uvicorn.Config(app, lifespan="off"), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Watched(config, state, {}), "127.0.0.1", 0)
    async with (
        server,
        connected("http://{}:{}".format(*server.sockets[0].getsockname())) as (
            reader,
            writer,
        ),
    ):
        writer.write(b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        await until(lambda: state.tasks)
        for limit in ("HEAD_S", "BODY_S"):
            monkeypatch.setattr(connection, limit, 0)
        writer.write(b"aPOST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na")
        await asyncio.wait_for(is_late.wait(), 30)
        monkeypatch.setattr(connection, "BODY_S", 120)
        may_answer.set()
        async with asyncio.timeout(30):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            writer.write(b"a")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_line_ends_do_not_keep_a_connection(monkeypatch, url):
    async with connected(url) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        monkeypatch.setattr(connection, "HEAD_S", 0.01)
        writer.write(b"\r\n")
        await answer_to_the_end(reader)


async def test_a_client_that_leaves_inside_its_body_is_no_fault_of_the_gateway(url, http):
    with capture_logs() as logs:
        async with connected(url) as (_, writer):
            writer.write(HEAD + b"Content-Length: 9\r\n\r\n{")
        async with asyncio.timeout(30):
            while "/v1/completions" not in [each.get("path") for each in logs]:
                await http.get("/health")
    assert {each["log_level"] for each in logs} == {"info"}
