"""The processor time that a request costs the gateway, and the least that its libraries allow.

    python benchmarks/gateway_starts.py [--concurrency 8] [--requests 400] [--repeats 9]

A service that answers at once stands for the tiers, so that the gateway alone is measured, by the
clock of its threads: a busy machine changes little. The *least* is an application of uvicorn and
gRPC that checks nothing, reads one field and passes messages on. All take turns. For Linux.
"""

import argparse
import asyncio
import json
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import grpc
import uvicorn
import uvloop

from forethought.bench.generation_arm import time_generation
from forethought.client import GenerationClient
from forethought.generation import GenerationParams, GenerationRequest
from forethought.v1 import common_pb2
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)

SERVICE, LEAST, GATEWAY = "service", "least", "gateway"
PROMPT = list(range(3, 60))
REQUEST = GenerationRequest(PROMPT, GenerationParams(max_tokens=1))
LAST_CHUNK = b"\r\n0\r\n\r\n"  # RFC 9112, section 7.1
ADDRESS = re.compile(rb"127\.0\.0\.1:(\d+)")


class Service(GenerationServiceServicer):
    """Answers every request by one token."""

    async def Generate(  # noqa: N802 - a method of gRPC
        self, request: pb.GenerateRequest, context: Any
    ) -> AsyncIterator[pb.GenerateResponse]:
        del request, context
        yield pb.GenerateResponse(started=pb.GenerationStarted(model="m", verification_mode=1))
        yield pb.GenerateResponse(tokens=[pb.GeneratedToken(text="a", origin=3)])
        yield pb.GenerateResponse(finished=pb.GenerationFinished(finish_reason=1))

    async def GetModelInfo(  # noqa: N802 - a method of gRPC
        self, request: pb.GenerationServiceGetModelInfoRequest, context: Any
    ) -> pb.GenerationServiceGetModelInfoResponse:
        del request, context
        return pb.GenerationServiceGetModelInfoResponse(
            target=common_pb2.ModelInfo(name="m"), default_verification_mode=1
        )


async def serve() -> None:
    """The service, until it is killed."""
    server = grpc.aio.server()
    add_GenerationServiceServicer_to_server(Service(), server)
    print(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}", flush=True)
    await server.start()
    await server.wait_for_termination()


async def serve_least(orchestrator: str) -> None:
    """The least that could be called a gateway, until it is killed."""
    stub = GenerationServiceStub(grpc.aio.insecure_channel(orchestrator))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del scope
        prompt = json.loads((await receive())["body"])["prompt"]
        request = pb.GenerateRequest(token_ids=pb.TokenIds(token_ids=prompt))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for response in stub.Generate(request):
            data = b"data: {%b}\n\n" % response.SerializeToString()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    off = {"access_log": False, "proxy_headers": False, "server_header": False}
    config = uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", **off)
    await uvicorn.Server(config).serve()


@contextmanager
def running(*command: str) -> Iterator[tuple[int, int]]:
    """A process, and the port that it says it listens on."""
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if (found := ADDRESS.search(line)) and b"orchestrator" not in line:
                    break
            else:
                sys.exit(f"{command[0]} did not start")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield process.pid, int(found[1])
        finally:
            process.kill()


def used_ns(pid: int) -> tuple[int, int]:
    """Processor time of the main thread, and of all threads of a process."""
    if not pid:
        return 0, 0
    spent = {
        int(each.name): int((each / "schedstat").read_text().split()[0])
        for each in Path(f"/proc/{pid}/task").iterdir()
    }
    return spent[pid], sum(spent.values())


class Http:
    """Asks by HTTP, over connections that are kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self) -> float:
        """Seconds to the first token."""
        body = json.dumps({"prompt": PROMPT, "max_tokens": 1, "stream": True}).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began, first_s = perf_counter(), 0.0
        reader, writer = self._idle.pop() if self._idle else await self._open()
        writer.write(head.encode() + body)
        received = bytearray()
        while not received.endswith(LAST_CHUNK):
            if not (piece := await reader.read(2**16)):
                sys.exit(f"it says {received.decode(errors='replace')}")
            received += piece
            if not first_s and b"data: {" in received:
                first_s = perf_counter() - began
        self._idle.append((reader, writer))
        return first_s

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port)


async def ask_directly(client: GenerationClient) -> float:
    """The same by gRPC, of the service itself."""
    return (await time_generation(client, REQUEST, 60)).first_token_s


@dataclass
class Arm:
    """What is asked, and the process between here and the service."""

    ask: Callable[[], Awaitable[float]]
    pid: int = 0  # there is none
    spent: list[tuple[float, float, float]] = field(default_factory=list)
    """Of each burst, milliseconds a request: main thread, all threads, to the first token."""

    async def burst(self, concurrency: int, num_requests: int) -> None:
        """As many requests, some at a time: all of them begin at once."""
        main, total = used_ns(self.pid)
        first_s: list[float] = []
        for _ in range(num_requests // concurrency):
            first_s += await asyncio.gather(*(self.ask() for _ in range(concurrency)))
        later_main, later_total = used_ns(self.pid)
        per_ms = 1e6 * len(first_s)
        self.spent.append(
            ((later_main - main) / per_ms, (later_total - total) / per_ms, 1e3 * median(first_s))
        )


async def measure(
    service: int, gateway: tuple[int, int], least: tuple[int, int], options: argparse.Namespace
) -> None:
    """All bursts, in turns; the first of each is not counted."""
    async with GenerationClient(f"127.0.0.1:{service}") as client:
        arms = {
            "gRPC, without a gateway": Arm(lambda: ask_directly(client)),
            GATEWAY: Arm(Http(gateway[1]).ask, gateway[0]),
            LEAST: Arm(Http(least[1]).ask, least[0]),
        }
        for repeat in range(options.repeats + 1):
            for arm in list(arms.values())[:: 1 if repeat % 2 else -1]:
                await arm.burst(options.concurrency, options.requests)
    print(f"{options.concurrency} at once; milliseconds a request")
    for name, arm in arms.items():
        main, total, first = map(median, zip(*arm.spent[1:], strict=True))
        costs = f"; event loop's thread {main:.2f}, all threads {total:.2f}" if arm.pid else ""
        print(f"{name}: first token after {first:.1f}{costs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("role", nargs="?", default="", help=argparse.SUPPRESS)
    parser.add_argument("--orchestrator", help=argparse.SUPPRESS)
    parser.add_argument("--concurrency", type=int, default=8, help="requests that begin at once")
    parser.add_argument("--requests", type=int, default=400, help="of a burst")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    if options.role == SERVICE:
        uvloop.run(serve())
    elif options.role == LEAST:
        uvloop.run(serve_least(options.orchestrator))
    else:
        with ExitStack() as cleanup:
            _, port = cleanup.enter_context(running(__file__, SERVICE))
            asked = ("--orchestrator", f"127.0.0.1:{port}")
            free = ("--listen", "127.0.0.1:0", "--admin-listen", "")
            gateway = cleanup.enter_context(running("-m", "gateway", *asked, *free))
            least = cleanup.enter_context(running(__file__, LEAST, *asked))
            uvloop.run(measure(port, gateway, least, options))


if __name__ == "__main__":
    main()
