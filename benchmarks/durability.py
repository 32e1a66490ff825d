"""What it costs that sessions are stored: two orchestrators before the same tiers, one without a
store, take turns.

    python benchmarks/durability.py --repeats 9
    python benchmarks/durability.py --repeats 0 --pause-s 10   # the pace while the store hangs

Tokens a second from the first token of an answer to its last, and the median over repeats of the
ratio of neighbours: the machine may be busy, and both of a pair see the same. Beside it the
processor time of each orchestrator and of the store for a token, which depends less on who else is
there.
"""

import argparse
import asyncio
import os
import signal
import tempfile
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

import psutil

from forethought.client import GenerationClient
from forethought.generation import ChatMessage, Finished, GenerationParams, GenerationRequest, Token
from forethought.local.plan.plan import Plan, planned, store_variable
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.processes.local_deployment import LocalDeployment, Tier

_PORT = 51850

PROMPT = (
    "Repeat this text three times: The draft guesses the next tokens, the target checks all of "
    "them in one pass, and the orchestrator decides which of them stay."
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    repeats: int
    max_tokens: int
    pause_s: float
    num_streams: int
    num_threads: int


@dataclass(frozen=True, slots=True)
class Arm:
    """An orchestrator."""

    client: GenerationClient
    process: psutil.Process


def processor_s(process: psutil.Process) -> float:
    """Processor time so far, all threads, seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def with_and_without_store(plan: Plan, plain_port: int) -> tuple[list[Tier], str, str]:
    """All tiers, and the addresses of the orchestrators with a store and without."""
    stored = next(tier for tier in plan.tiers if tier.name == "orchestrator")
    command = list(stored.command)
    environment = dict(stored.environment)
    del environment[store_variable(stored.name)]
    address = f"127.0.0.1:{plain_port}"
    command[command.index("--listen") + 1] = address
    plain = replace(
        stored,
        name="without-store",
        command=command,
        address=address,
        environment=environment,
    )
    return [*plan.tiers, plain], stored.address, address


def asking(k: int, max_tokens: int) -> GenerationRequest:
    """A request whose answer repeats its prompt, so that lookup drafts are accepted."""
    params = GenerationParams(
        temperature=0, max_tokens=max_tokens, ignore_eos=True, num_speculative_tokens=k
    )
    return GenerationRequest([ChatMessage("user", PROMPT)], params)


async def pace_of(client: GenerationClient, request: GenerationRequest) -> float:
    """Tokens a second after the first."""
    times = []
    async for event in client.generate(request, timeout_s=300):
        if isinstance(event, Token):
            times.append(perf_counter())
        elif isinstance(event, Finished) and event.num_output_tokens != len(times):
            raise AssertionError("an answer lost tokens")
    return (len(times) - 1) / (times[-1] - times[0])


async def compare(stored: Arm, plain: Arm, valkey: psutil.Process, options: Options) -> None:
    """One stream, in turns."""
    processes = (stored.process, plain.process, valkey)
    for k in (0, 4):
        request = asking(k, options.max_tokens)
        for arm in (stored, plain):
            await pace_of(arm.client, request)
        pairs = []
        before = [processor_s(process) for process in processes]
        for repeat in range(options.repeats):
            order = (stored, plain) if repeat % 2 else (plain, stored)
            paces = {arm: await pace_of(arm.client, request) for arm in order}
            pairs.append((paces[stored], paces[plain]))
        ratio = median(with_store / without for with_store, without in pairs)
        with_store, without = (median(column) for column in zip(*pairs, strict=True))
        num_tokens = options.max_tokens * options.repeats
        costs = [
            (processor_s(process) - earlier_s) * 1000 / num_tokens
            for process, earlier_s in zip(processes, before, strict=True)
        ]
        print(
            f"K = {k}: {with_store:.1f} tokens/s with a store, {without:.1f} without, "
            f"ratio of neighbours {ratio:.3f} (median of {len(pairs)}); processor time of the "
            f"orchestrator a token {costs[0]:.2f} and {costs[1]:.2f} ms, of the store "
            f"{costs[2]:.2f} ms",
            flush=True,
        )


async def hang(client: GenerationClient, valkey_pid: int, options: Options) -> None:
    """Streams that go on while the store is stopped: tokens a second before, meanwhile, after."""
    arrivals: list[float] = []
    longest_gap_s = 0.0

    async def stream() -> None:
        nonlocal longest_gap_s
        last = 0.0
        while not is_over:
            async for event in client.generate(asking(0, 512), timeout_s=300):
                if isinstance(event, Token):
                    now = perf_counter()
                    if stopped_at and last > stopped_at:
                        longest_gap_s = max(longest_gap_s, now - last)
                    last = now
                    arrivals.append(now)
                if is_over:
                    return

    is_over, stopped_at = False, 0.0
    tasks = [asyncio.create_task(stream()) for _ in range(options.num_streams)]
    await asyncio.sleep(3)
    bounds = [perf_counter()]
    await asyncio.sleep(options.pause_s)
    stopped_at = perf_counter()
    bounds.append(stopped_at)
    os.kill(valkey_pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(options.pause_s)
    finally:
        os.kill(valkey_pid, signal.SIGCONT)
    bounds.append(perf_counter())
    await asyncio.sleep(options.pause_s)
    bounds.append(perf_counter())
    is_over = True
    await asyncio.gather(*tasks)
    paces = [
        sum(begin <= at < end for at in arrivals) / (end - begin) for begin, end in pairwise(bounds)
    ]
    before, meanwhile, after = paces
    print(
        f"{options.num_streams} streams: {before:.1f} tokens/s, {meanwhile:.1f} while the store "
        f"hangs for {options.pause_s:g} s, {after:.1f} after; ratio to the mean of before and "
        f"after {2 * meanwhile / (before + after):.3f}; longest pause of a stream "
        f"{longest_gap_s * 1000:.0f} ms",
        flush=True,
    )


async def main(options: Options) -> None:
    """Starts all, measures, stops all."""
    asked = PlanOptions(port=_PORT, num_threads=options.num_threads)
    with tempfile.TemporaryDirectory() as logs, planned(asked, Path(logs)) as plan:
        tiers, stored_address, plain_address = with_and_without_store(plan, _PORT + 90)
        async with LocalDeployment(tiers, plan.log_dir) as deployment:
            await deployment.wait_until_ready()
            async with (
                GenerationClient(stored_address) as stored,
                GenerationClient(plain_address) as plain,
            ):
                processes = {
                    each.tier.name: psutil.Process(each.process.pid) for each in deployment.running
                }
                if options.repeats:
                    await compare(
                        Arm(stored, processes["orchestrator"]),
                        Arm(plain, processes["without-store"]),
                        processes["valkey"],
                        options,
                    )
                if options.pause_s:
                    await hang(stored, processes["valkey"].pid, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--pause-s", type=float, default=0.0)
    parser.add_argument("--num-streams", type=int, default=8)
    parser.add_argument("--num-threads", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(main(Options(**vars(arguments))))
