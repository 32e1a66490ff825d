"""A target and its draft model, two real files, beside llama.cpp's server with the same files.

    python benchmarks/pair.py --model TARGET.gguf --draft-model DRAFT.gguf --num-threads 2 \\
        --llama-server PATH

Forethought runs plain (K = 0), with its draft at some fixed K and with the K that it chooses
itself, without lookups; llama.cpp plain and with the same draft. All get the same prompts of
benchmarks/prompts as token ids, compute each anew, and generate the same number of tokens past end
tokens, one stream and several, at each temperature. They take turns, and never run at the same
time. Prompts of 512 tokens follow; and before all of it each server is started alone, with its
files in the page cache.

Without llama.cpp's server only Forethought is measured. The tables are markdown.
"""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from peer_openai import OpenAIPeer, connect, open_http
from rich.console import Console

from forethought.bench.closed_loop import Sample
from forethought.bench.generation_arm import generation_sender
from forethought.bench.machine import describe_machine
from forethought.bench.prompts import load_kinds
from forethought.bench.report import number, percent, times, write_document
from forethought.bench.schedule import Arm, Schedule
from forethought.bench.statistics import Row, median_ratio, summarise
from forethought.cli.bench.throughput_options import parse_counts
from forethought.cli.bench.throughput_report import run_shown
from forethought.cli.failure import print_failure
from forethought.cli.signals import exit_on_stop_signals
from forethought.client import GenerationClient
from forethought.errors import ForethoughtError
from forethought.generation import GenerationParams
from forethought.local.plan.model_check import check_models
from forethought.local.plan.plan import planned
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.ports import Ports
from forethought.local.processes.local_deployment import LocalDeployment, Tier
from forethought.local.processes.probes import probe_http

PLAIN, ADAPTIVE = "Forethought, K = 0", "Forethought, adaptive"
PEER_PLAIN, PEER_DRAFT = "llama.cpp, plain", "llama.cpp, with draft"
PROMPT_LEN = 512
PAUSE_S = 0.5  # OpenMP's threads spin for up to 0.2 s when their work is done
PROMPTS = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Servers:
    """What runs, and how many seconds each took to be ready."""

    address: str  # of Forethought's orchestrator
    peers: dict[str, OpenAIPeer]
    ready_s: dict[str, float]


@dataclass(frozen=True)
class Result:
    """What was measured."""

    rows: dict[float, list[Row]]  # by temperature
    prefill: list[Row]
    ready_s: dict[str, float]


def main() -> None:
    options = parse_options()
    console = Console(stderr=True)
    machine = describe_machine()
    try:
        result = asyncio.run(run(options, console))
    except ForethoughtError as error:
        print_failure(console, error.message)
        sys.exit(1)
    if options.json:
        rows = [
            {"temperature": temperature, **asdict(row)}
            for temperature, measured in result.rows.items()
            for row in measured
        ]
        prefill = [asdict(row) for row in result.prefill]
        extra = {"prefill": prefill, "ready_s": result.ready_s}
        write_document(sys.stdout, "pair", machine, vars(options), rows, **extra)
    else:
        print(f"{machine.cpu}, {options.num_threads or machine.num_cores} threads\n")
        print("\n".join(chain(speed_table(result), [""], other_table(result))))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--model", required=True, metavar="REF")
    add("--draft-model", required=True, metavar="REF", help="with the target's vocabulary")
    add("--draft-vocab-size", type=int, metavar="N", help="tokens that our draft scores")
    add("--dtype", help="of Forethought's models")
    add("--num-threads", type=int, default=2, help="of each model, and of llama.cpp")
    add("--fixed", type=parse_counts, default=(1, 2, 4), metavar="K,K,...")
    add("--temperatures", type=parse_temperatures, default=(0.0, 1.0), metavar="T,T,...")
    add("--concurrency", type=parse_counts, default=(1, 8), metavar="N,N,...")
    add("--requests", type=int, help="of one run at one point")
    add("--repeats", type=int, default=3)
    add("--max-tokens", type=int, default=64)
    add("--prefill-requests", type=int, default=4, help="prompts of 512 tokens in one run")
    add("--timeout", type=float, default=600, metavar="SECONDS", help="of a request")
    add("--llama-server", metavar="PATH", help="llama.cpp's server; else the one in PATH")
    add("--llama-k", type=int, default=3, help="tokens that llama.cpp drafts")
    add("--json", action="store_true")
    options = parser.parse_args()
    named = options.llama_server
    options.llama_server = shutil.which(named or "llama-server")
    if named and options.llama_server is None:
        parser.error(f"--llama-server {named}: there is no such program")
    if options.llama_server is None:
        print("There is no llama-server in PATH: only Forethought is measured.", file=sys.stderr)
    elif not all(each.endswith(".gguf") for each in (options.model, options.draft_model)):
        parser.error("llama.cpp reads .gguf files: name such by --model and --draft-model")
    return options


def parse_temperatures(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


async def run(options: argparse.Namespace, console: Console) -> Result:
    with exit_on_stop_signals():
        return await measure_all(options, console)


async def measure_all(options: argparse.Namespace, console: Console) -> Result:
    check_models(options.model, options.draft_model)
    async with AsyncExitStack() as stack:
        servers = await start(options, stack)
        client = await stack.enter_async_context(GenerationClient(servers.address))
        kinds = load_kinds(PROMPTS)
        turns = chain.from_iterable(zip(*kinds.values(), strict=True))  # kind after kind
        prompts = [await client.tokenize(prompt) for prompt in turns]
        schedule = Schedule(options.concurrency, options.repeats, options.requests, PAUSE_S)
        rows = {
            temperature: summarise(
                await run_shown(
                    [
                        *our_arms(options, client, prompts, temperature),
                        *peer_arms(options, servers.peers, prompts, temperature),
                    ],
                    schedule,
                    console,
                )
            )
            for temperature in options.temperatures
        }
        schedule = Schedule((1,), options.repeats, options.prefill_requests, PAUSE_S)
        arms = prefill_arms(options, client, servers, prompts)
        prefill = summarise(await run_shown(arms, schedule, console))
        return Result(rows, prefill, servers.ready_s)


async def start(options: argparse.Namespace, stack: AsyncExitStack) -> Servers:
    """Starts all servers one after the other, those that only show how soon they are ready too."""
    pair = PlanOptions(
        model=options.model,
        draft_model=options.draft_model,
        draft_vocab_size=options.draft_vocab_size,
        lookup=(),
        dtype=options.dtype,
        num_threads=options.num_threads,
        embedded_store=False,
    )
    read_files(options)
    ready_s = {}
    with planned(replace(pair, draft_model=None)) as plan:
        async with LocalDeployment(plan.tiers, plan.log_dir) as deployment:
            ready_s[PLAIN] = await seconds_until_ready(deployment)
    plan = stack.enter_context(planned(pair))
    deployment = LocalDeployment(plan.tiers, plan.log_dir)
    await stack.enter_async_context(deployment)
    ready_s[ADAPTIVE] = await seconds_until_ready(deployment)
    peers = {}
    http = await stack.enter_async_context(open_http(options.timeout))
    ports = Ports(8180)
    for tier in llama_tiers(options, ports) if options.llama_server else ():
        folder = Path(stack.enter_context(TemporaryDirectory()))
        deployment = LocalDeployment([tier], folder)
        await stack.enter_async_context(deployment)
        ready_s[tier.name] = await seconds_until_ready(deployment)
        peers[tier.name] = await connect(tier.name, f"http://{tier.address}/v1", http)
    return Servers(plan.address, peers, ready_s)


def read_files(options: argparse.Namespace) -> None:
    """Into the page cache, so that who starts first does not wait for the disk."""
    for path in map(Path, (options.model, options.draft_model)):
        if path.is_file():
            with path.open("rb") as file:
                while file.read(2**24):
                    pass


async def seconds_until_ready(deployment: LocalDeployment) -> float:
    started = perf_counter()
    await deployment.wait_until_ready()
    return perf_counter() - started


def llama_tiers(options: argparse.Namespace, ports: Ports) -> Iterator[Tier]:
    """docs/peers.md says what the flags mean."""
    slots = max(options.concurrency)
    flags = ("-t", str(options.num_threads), "-np", str(slots), "-c", str(2048 * slots))
    flags += ("-cram", "0", "--offline")
    draft = ("-md", options.draft_model, "--spec-type", "draft-simple")
    draft += ("--spec-draft-n-max", str(options.llama_k))
    for name, own in ((PEER_PLAIN, ()), (PEER_DRAFT, draft)):
        port = ports.take(name, "127.0.0.1")
        listen = ("--host", "127.0.0.1", "--port", str(port))
        command = [options.llama_server, "-m", options.model, *listen, *flags, *own]
        yield Tier(name, command, f"127.0.0.1:{port}", probe_http)


def our_arms(
    options: argparse.Namespace,
    client: GenerationClient,
    prompts: Sequence[Sequence[int]],
    temperature: float,
) -> Iterator[Arm]:
    ks = {PLAIN: 0} | {f"Forethought, K = {k}": k for k in options.fixed} | {ADAPTIVE: None}
    for name, k in ks.items():
        params = GenerationParams(
            max_tokens=options.max_tokens,
            temperature=temperature,
            seed=0,
            ignore_eos=True,
            num_speculative_tokens=k,
        )
        sender = generation_sender(client, prompts, params, options.timeout, are_apart=True)
        yield Arm(name, sender)


def peer_arms(
    options: argparse.Namespace,
    peers: dict[str, OpenAIPeer],
    prompts: Sequence[Sequence[int]],
    temperature: float,
) -> Iterator[Arm]:
    for name, peer in peers.items():

        async def send(index: int, peer: OpenAIPeer = peer) -> Sample:
            prompt = prompts[index % len(prompts)]
            return await peer.complete(prompt, options.max_tokens, temperature)

        yield Arm(name, send)


def prefill_arms(
    options: argparse.Namespace,
    client: GenerationClient,
    servers: Servers,
    prompts: Sequence[Sequence[int]],
) -> list[Arm]:
    """One token after a prompt of 512, cut out of all prompts in a row."""
    text = list(islice(cycle(chain.from_iterable(prompts)), PROMPT_LEN * options.prefill_requests))
    long = [text[start : start + PROMPT_LEN] for start in range(0, len(text), PROMPT_LEN)]
    params = GenerationParams(max_tokens=1, temperature=0, seed=0, num_speculative_tokens=0)
    sender = generation_sender(client, long, params, options.timeout, are_apart=True)
    arms = [Arm(PLAIN, sender)]
    if peer := servers.peers.get(PEER_PLAIN):

        async def send(index: int) -> Sample:
            return await peer.complete(long[index % len(long)], 1)

        arms.append(Arm(PEER_PLAIN, send))
    return arms


def speed_table(result: Result) -> Iterator[str]:
    """Tokens a second at each point, and how many times those of plain decoding by llama.cpp, or
    by Forethought where that is alone."""
    rows = {
        (temperature, row.concurrency, row.arm): row
        for temperature, measured in result.rows.items()
        for row in measured
    }
    points = list(dict.fromkeys((temperature, streams) for temperature, streams, _ in rows))
    arms = list(dict.fromkeys(arm for _, _, arm in rows))
    base = PEER_PLAIN if PEER_PLAIN in arms else PLAIN
    heads = [f"temperature {t:g}, {n} stream{'s' * (n > 1)}" for t, n in points]
    yield f"| tokens a second, and times {base} | {' | '.join(heads)} | accepted |"
    yield f"|---|{'---|' * (len(points) + 1)}"
    for arm in arms:
        cells = [
            f"{number(rows[t, n, arm].median.tokens_per_s)} "
            f"({times(median_ratio(rows[t, n, arm], rows[t, n, base]))})"
            for t, n in points
        ]
        accepted = [percent(rows[t, n, arm].median.acceptance_rate) for t, n in points if n == 1]
        yield f"| {arm} | {' | '.join(cells)} | {', '.join(filter(None, accepted))} |"


def other_table(result: Result) -> Iterator[str]:
    """How fast prompts are computed, and how soon each server is ready."""
    rates = {row.arm: PROMPT_LEN / row.median.ttft_p50_ms * 1000 for row in result.prefill}
    arms = dict.fromkeys((*rates, *result.ready_s))
    yield "| | prompts of 512 tokens, tokens a second | ready after, seconds |"
    yield "|---|---|---|"
    for arm in arms:
        yield f"| {arm} | {number(rates.get(arm))} | {number(result.ready_s.get(arm))} |"


if __name__ == "__main__":
    main()
