"""Forethought beside other ways to run the same model, in one run.

    python benchmarks/peers.py [--url NAME=http://host:port/v1 ...] [--concurrency 1,8] [--json]

All get the same prompts as token ids and generate the same number of tokens at temperature 0,
past end tokens. They take turns, round by round, and never run at the same time. transformers
joins at concurrency 1 only. docs/peers.md says how to start servers to compare with.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peer_openai import connect, open_http
from peer_transformers import TransformersOptions, running_transformers
from rich.console import Console

from forethought.bench.generation_arm import generation_sender
from forethought.bench.machine import describe_machine
from forethought.bench.prompts import load_prompts
from forethought.bench.report import (
    Column,
    build_table,
    number,
    print_table,
    times,
    write_document,
)
from forethought.bench.schedule import Arm, Schedule
from forethought.bench.statistics import Row, median_ratio, summarise
from forethought.cli.bench.deployment import LocalOptions, measure_local
from forethought.cli.bench.throughput_options import parse_counts
from forethought.cli.bench.throughput_report import run_shown
from forethought.cli.failure import print_failure
from forethought.cli.signals import exit_on_stop_signals
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError
from forethought.generation import GenerationParams
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.local.plan.plan_options import PlanOptions

PLAIN, SPECULATIVE = "forethought plain", "forethought speculative"
OURS = (PLAIN, SPECULATIVE)
PAUSE_S = 0.5  # OpenMP's threads spin for up to 0.2 s when their work is done


@dataclass(frozen=True)
class Result:
    """What came out, and which models the servers named."""

    rows: list[Row]
    served: dict[str, str]


def main() -> None:
    options = parse_options()
    errors = Console(stderr=True)
    machine = describe_machine()
    try:
        result = asyncio.run(run(options, errors))
    except ForethoughtError as error:
        print_failure(errors, error.message)
        sys.exit(1)
    if options.json:
        settings = {**vars(options), "concurrency": options.concurrency, "served": result.served}
        write_document(sys.stdout, "peers", machine, settings, json_rows(result.rows))
    else:
        print_table(build_table(columns(result.rows), result.rows))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--concurrency", type=parse_counts, default=(1, 8), metavar="N,N,...")
    add("--requests", type=int, help="of one run at one point")
    add("--repeats", type=int, default=3)
    add("--prompts", type=Path, metavar="FILE", help="a line each")
    add("--max-tokens", type=int, default=64)
    add("--timeout", type=float, default=600, metavar="SECONDS", help="of a request")
    add("--json", action="store_true")
    ours = parser.add_argument_group("Forethought")
    add = ours.add_argument
    add("--address", metavar="HOST:PORT", help="a running orchestrator; else one is started")
    add("--model", default=DEFAULT_MODEL, metavar="REF", help="also of transformers")
    add("--draft-model", metavar="REF", help="also transformers' assistant")
    add("--dtype", help="of Forethought's tiers")
    add("--num-speculative-tokens", "-k", type=int, metavar="K")
    add("--num-threads", type=int, help="of each tier, and of transformers")
    add("--port", type=int, help="of the orchestrator that is started")
    peers = parser.add_argument_group("Peers")
    add = peers.add_argument
    add("--url", action="append", default=[], type=named_url, metavar="NAME=URL")
    add("--no-transformers", action="store_true")
    add("--transformers-dtype", default="bfloat16")
    add("--lookup-tokens", type=int, default=10, help="transformers' prompt lookup drafts")
    return parser.parse_args()


def named_url(text: str) -> tuple[str, str]:
    name, _, url = text.partition("=")
    if not name or not url.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not like NAME=http://host:port/v1")
    return name, url


async def run(options: argparse.Namespace, console: Console) -> Result:
    """Measures Forethought at an address, or starts it first."""

    async def measure_at(address: str) -> Result:
        return await measure(options, address, console)

    with exit_on_stop_signals():
        if options.address:
            return await measure_at(options.address)
        plan = PlanOptions(
            model=options.model,
            draft_model=options.draft_model,
            dtype=options.dtype,
            num_threads=options.num_threads,
            port=options.port,
            embedded_store=False,
        )
        local = LocalOptions(plan, None, startup_timeout_s=300)
        return await measure_local(local, measure_at, console)


async def measure(options: argparse.Namespace, address: str, console: Console) -> Result:
    """Connects to everything, then lets all take turns."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(GenerationClient(address))
        prompts = [await client.tokenize(prompt) for prompt in load_prompts(options.prompts)]
        arms = our_arms(options, client, prompts)
        if not options.no_transformers:
            arms += await transformers_arms(options, prompts, stack)
        http = await stack.enter_async_context(open_http(options.timeout))
        served = {}
        for name, url in options.url:
            peer = await connect(name, url, http)
            served[name] = peer.model

            async def send(index: int, peer: Any = peer) -> Any:
                return await peer.complete(prompts[index % len(prompts)], options.max_tokens)

            arms.append(Arm(name, send))
        schedule = Schedule(options.concurrency, options.repeats, options.requests, PAUSE_S)
        return Result(summarise(await run_shown(arms, schedule, console)), served)


def our_arms(
    options: argparse.Namespace, client: GenerationClient, prompts: Sequence[list[int]]
) -> list[Arm]:
    arms = []
    for name, k in zip(OURS, (0, options.num_speculative_tokens), strict=True):
        params = GenerationParams(
            max_tokens=options.max_tokens,
            temperature=0,
            seed=0,
            ignore_eos=True,
            num_speculative_tokens=k,
        )
        arms.append(Arm(name, generation_sender(client, prompts, params, options.timeout)))
    return arms


async def transformers_arms(
    options: argparse.Namespace, prompts: Sequence[list[int]], stack: AsyncExitStack
) -> list[Arm]:
    chosen = TransformersOptions(
        options.model,
        options.draft_model,
        options.transformers_dtype,
        options.num_threads or 0,
        options.lookup_tokens,
    )
    child = await stack.enter_async_context(running_transformers(chosen))
    arms = []
    for mode in chosen.modes:

        async def send(index: int, mode: str = mode) -> Any:
            prompt = prompts[index % len(prompts)]
            return await child.complete(mode, prompt, options.max_tokens)

        arms.append(Arm(f"transformers {mode}", send, max_concurrency=1))
    return arms


def columns(rows: Sequence[Row]) -> list[Column[Row]]:
    ratios = ratios_to_peers(rows)
    return [
        Column("at\nonce", lambda row: str(row.concurrency)),
        Column("arm", lambda row: row.arm, is_number=False),
        Column("tokens/s", lambda row: number(row.median.tokens_per_s)),
        Column("TTFT ms\np50", lambda row: number(row.median.ttft_p50_ms, 0)),
        Column("\np99", lambda row: number(row.median.ttft_p99_ms, 0)),
        Column("TPOT ms\np50", lambda row: number(row.median.tpot_p50_ms)),
        Column("tokens/\nrequest", lambda row: number(row.median.tokens_per_request)),
        Column("plain\nto it", lambda row: times(ratios[row.concurrency, row.arm].get(PLAIN))),
        Column(
            "specul.\nto it", lambda row: times(ratios[row.concurrency, row.arm].get(SPECULATIVE))
        ),
    ]


def ratios_to_peers(rows: Sequence[Row]) -> dict[tuple[int, str], dict[str, float]]:
    """For each peer's row, tokens a second of each of our arms over the peer's."""
    ours = {(row.concurrency, row.arm): row for row in rows if row.arm in OURS}
    return {
        (row.concurrency, row.arm): {
            arm: median_ratio(ours[row.concurrency, arm], row)
            for arm in OURS
            if row.arm not in OURS
        }
        for row in rows
    }


def json_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    ratios = ratios_to_peers(rows)
    return [
        {
            "arm": row.arm,
            "concurrency": row.concurrency,
            **asdict(row.median),
            "forethought_over_it": ratios[row.concurrency, row.arm] or None,
            "repeats": [asdict(repeat) for repeat in row.repeats],
        }
        for row in rows
    ]


if __name__ == "__main__":
    main()
