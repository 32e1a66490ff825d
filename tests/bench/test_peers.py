"""Peers of `benchmarks/peers.py`: a server with OpenAI's API, played by one that says its lines."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from benchmarks.peer_openai import PeerError, connect, open_http
from benchmarks.peer_transformers import TransformersOptions, running_transformers

MODELS = {"data": [{"id": "tiny"}]}


def chunk(text, **fields):
    return {"choices": [{"text": text, "finish_reason": None}], **fields}


class Server:
    """Speaks just enough HTTP. `chunks` is what a completion streams."""

    def __init__(self, chunks=(), status="200 OK"):
        self.chunks = chunks
        self.status = status
        self.bodies = []

    async def handle(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if head.startswith("get"):
            lines = [json.dumps(MODELS)]
        else:
            length = int(head.partition("content-length:")[2].split("\r\n")[0])
            self.bodies.append(json.loads(await reader.readexactly(length)))
            lines = [f"data: {json.dumps(item)}\n" for item in self.chunks]
            lines += ["data: [DONE]\n"]
        status = "200 OK" if head.startswith("get") else self.status
        writer.write(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
        writer.write("\n".join(lines).encode())
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def running(server):
    """A peer connected to the server."""
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, open_http(5) as client:
        yield await connect("peer", f"http://127.0.0.1:{port}/v1/", client)


async def test_all_peers_are_asked_for_the_same():
    server = Server([chunk("a"), chunk("b")])
    async with running(server) as peer:
        await peer.complete([5, 6, 7], max_tokens=9)
    (body,) = server.bodies
    assert body["model"] == "tiny"
    assert body["prompt"] == [5, 6, 7]
    assert body["max_tokens"] == 9
    assert body["temperature"] == 0
    assert body["ignore_eos"] is True
    assert body["cache_prompt"] is False


async def test_the_server_counts_the_tokens_because_a_chunk_may_hold_several():
    usage = {"completion_tokens": 6}
    server = Server([chunk("a b"), chunk("c d e"), {"choices": [], "usage": usage}])
    async with running(server) as peer:
        sample = await peer.complete([1], max_tokens=6)
    assert sample.num_tokens == 6
    assert 0 < sample.first_token_s <= sample.last_token_s


async def test_without_usage_chunks_are_counted():
    async with running(Server([chunk("a"), chunk("b"), chunk("c")])) as peer:
        assert (await peer.complete([1], max_tokens=3)).num_tokens == 3


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (Server(status="400 Bad Request"), "peer refuses: 400"),
        (Server([{"error": {"message": "out of memory"}}]), "peer fails: .*out of memory"),
        (Server([]), "streamed no completion"),
    ],
)
async def test_a_peer_that_fails_is_an_error_and_no_number(server, message):
    async with running(server) as peer:
        with pytest.raises(PeerError, match=message):
            await peer.complete([1], max_tokens=3)


async def test_nobody_at_the_address_is_an_error():
    async with open_http(5) as client:
        with pytest.raises(PeerError, match="peer serves no model"):
            await connect("peer", "http://127.0.0.1:9/v1", client)


async def test_transformers_generates_past_end_tokens_in_each_way(
    tiny_target_folder, tiny_draft_folder
):
    options = TransformersOptions(
        str(tiny_target_folder), str(tiny_draft_folder), "float32", num_threads=1
    )
    async with running_transformers(options) as child:
        for mode in options.modes:
            sample = await child.complete(mode, [3, 4, 5, 3, 4], max_tokens=12)
            assert sample.num_tokens == 12, mode
            assert 0 < sample.first_token_s < sample.last_token_s
