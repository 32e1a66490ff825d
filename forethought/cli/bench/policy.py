"""`forethought bench policy`: is the adaptive choice of K as good as it should be?

Two deployments of the same target run side by side, one with a good draft and one with a useless
one, and take turns under load: what else the machine does disturbs both alike, and the one that
waits computes nothing. What the policy learns while it is measured is part of the measurement, as
it is part of what a user sees.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typer
from rich.console import Console

from forethought.bench.generation_arm import generation_sender
from forethought.bench.load import Load, prompts_of_option
from forethought.bench.machine import describe_machine
from forethought.bench.plot import PlotError, require_plot, write_plot
from forethought.bench.policy_goals import judge_goals
from forethought.bench.policy_points import (
    GOOD,
    USELESS,
    Point,
    Variant,
    plain_twice,
    points_of,
    variants_of,
)
from forethought.bench.report import print_table, write_document
from forethought.bench.schedule import Arm, Schedule
from forethought.bench.statistics import summarise
from forethought.bench.useless_draft import write_useless_draft
from forethought.cli.bench import policy_options
from forethought.cli.bench import throughput_options as options
from forethought.cli.bench.deployment import LocalOptions, measure_local, run_to_exit_code
from forethought.cli.bench.policy_report import (
    goals_json,
    noise_line,
    policy_json,
    policy_plot,
    policy_table,
)
from forethought.cli.bench.throughput_report import run_shown
from forethought.cli.failure import print_failure
from forethought.cli.up import options as up_options
from forethought.client import GenerationClient
from forethought.errors import ModelReferenceError
from forethought.generation import GenerationParams
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.local.plan.model_check import check_models
from forethought.local.plan.plan import runs_on_cpu
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions

_PORTS_APART = 10
"""From the first deployment to the second, where a port is asked for."""
_PAUSE_S = 0.5
"""Before each burst: idle threads of the deployment that waits now wait actively for a while."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is sent, and which choices of K are compared."""

    load: Load
    fixed: Sequence[int]

    @property
    def variants(self) -> list[Variant]:
        return [each for draft in (GOOD, USELESS) for each in variants_of(draft, self.fixed)]


def policy(
    *,
    concurrency: options.Concurrency = "1,2,4,8,16,32",
    fixed: policy_options.Fixed = "1,2,3,4,6,8",
    requests: options.Requests = None,
    repeats: options.Repeats = 3,
    prompts: options.Prompts = None,
    max_tokens: options.MaxTokens = 64,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600,
    model: up_options.Model = DEFAULT_MODEL,
    dtype: policy_options.TargetDtype = None,
    draft_model: policy_options.GoodDraft = None,
    draft_dtype: policy_options.GoodDraftDtype = None,
    device: up_options.Device = None,
    num_threads: up_options.NumThreads = None,
    port: up_options.Port = None,
    log_dir: up_options.LogDir = None,
    startup_timeout: up_options.StartupTimeout = 300,
    as_json: options.AsJson = False,
    plot: options.PlotFile = None,
    check: policy_options.Check = False,
) -> None:
    """Measure the adaptive choice of K (--policy adaptive) against no speculation at rising
    concurrency, and against each fixed K for one request at a time: with a good draft and with a
    useless one, in turns. Says whether speculation is never clearly slower than none, and the
    choice nearly as good as the best fixed one.

    It starts two deployments on this machine, and stops them afterwards.

    Examples:

    - `forethought bench policy --repeats 5 --plot policy.svg`

    - `forethought bench policy --model REF --draft-model REF --concurrency 1,8,64 --check`
    """
    schedule = Schedule(options.parse_counts(concurrency), repeats, requests, _PAUSE_S)
    params = GenerationParams(max_tokens=max_tokens, temperature=temperature, seed=seed)
    comparison = Comparison(
        Load(prompts_of_option(prompts), params, schedule, timeout),
        options.parse_counts(fixed, "--fixed"),
    )
    if check and 1 not in schedule.concurrencies:
        raise typer.BadParameter("--check is about both goals: let --concurrency hold 1")
    good = _good_deployment(
        PlanOptions(
            model=model,
            draft_model=draft_model or model,
            lookup=(),
            policy="adaptive",
            dtype=dtype,
            draft_dtype=draft_dtype,
            device=device,
            num_threads=num_threads,
            port=port,
            embedded_store=False,
        )
    )
    machine = describe_machine()
    errors = Console(stderr=True)
    try:
        if plot is not None:
            require_plot(plot)
        check_models(model, draft_model)
        with TemporaryDirectory(prefix="forethought-") as folder:
            useless = _useless_deployment(good, Path(folder))
            deployments = [
                LocalOptions(plan, log_dir and log_dir / name, startup_timeout)
                for name, plan in ((GOOD, good), (USELESS, useless))
            ]
            points = asyncio.run(_run(comparison, deployments, errors))
        if plot is not None:
            write_plot(plot, policy_plot(points, _title(good)))
    except (ModelReferenceError, PlanError, PlotError) as error:
        print_failure(errors, error.message)
        raise typer.Exit(1) from error
    goals, noise = judge_goals(points), plain_twice(points)
    if as_json:
        settings = _settings(comparison, good)
        rows, verdicts = policy_json(points), goals_json(goals)
        write_document(sys.stdout, "policy", machine, settings, rows, goals=verdicts, noise=noise)
    else:
        print_table(policy_table(points))
        for goal in goals:
            typer.echo(str(goal))
        typer.echo(noise_line(noise))
    if check and not all(goal.holds for goal in goals):
        raise typer.Exit(1)


def _good_deployment(plan: PlanOptions) -> PlanOptions:
    """With a draft that is worth asking: another model, or the same in a smaller number format.

    Raises:
        typer.BadParameter: none was named, and there is none to choose.
    """
    if plan.draft_model != plan.model or plan.draft_dtype is not None:
        return plan
    if plan.model != DEFAULT_MODEL or not runs_on_cpu(plan.device):
        raise typer.BadParameter("name a good draft: --draft-model, --draft-dtype or both")
    # It takes about a third of the target's time for a token, and mostly guesses the same.
    return replace(plan, dtype=plan.dtype or "bfloat16", draft_dtype="int4")


def _useless_deployment(good: PlanOptions, folder: Path) -> PlanOptions:
    """The same but for the draft, which is written to `folder`."""
    return replace(
        good,
        draft_model=str(write_useless_draft(folder, good.model)),
        draft_dtype="bfloat16",
        port=None if good.port is None else good.port + _PORTS_APART,
    )


async def _run(
    comparison: Comparison, deployments: Sequence[LocalOptions], console: Console
) -> list[Point]:
    good, useless = deployments

    async def measure_both(at_good: str) -> list[Point]:
        async def measure(at_useless: str) -> list[Point]:
            return await measure_policy(comparison, (at_good, at_useless), console)

        return await measure_local(useless, measure, console)

    work = measure_local(good, measure_both, console)
    return await run_to_exit_code(work, "the local deployments", console)


async def measure_policy(
    comparison: Comparison, addresses: tuple[str, str], console: Console
) -> list[Point]:
    """Runs all arms in turns.

    Args:
        comparison: what to do.
        addresses: of the orchestrators, with the good and with the useless draft.
        console: for progress.

    Raises:
        ForethoughtError: a request failed.
    """
    load, schedule = comparison.load, comparison.load.schedule
    async with GenerationClient(addresses[0]) as good, GenerationClient(addresses[1]) as useless:
        clients = {GOOD: good, USELESS: useless}
        arms = [
            Arm(
                variant.name,
                generation_sender(
                    clients[variant.draft],
                    load.prompts,
                    replace(load.params, num_speculative_tokens=variant.k),
                    load.timeout_s,
                ),
                max_concurrency=1 if variant.k else None,
            )
            for variant in comparison.variants
            if not variant.k or 1 in schedule.concurrencies
        ]
        bursts = await run_shown(arms, schedule, console)
    return points_of(summarise(bursts), comparison.variants)


def _settings(comparison: Comparison, good: PlanOptions) -> dict[str, Any]:
    load, schedule = comparison.load, comparison.load.schedule
    return {
        "deployment": asdict(good),  # the other one differs in its draft
        "concurrencies": schedule.concurrencies,
        "fixed": comparison.fixed,
        "repeats": schedule.repeats,
        "num_requests": {c: schedule.num_requests_at(c) for c in schedule.concurrencies},
        "params": asdict(load.params),
        "num_prompts": len(load.prompts),
    }


def _title(good: PlanOptions) -> str:
    target = f"{good.model} {good.dtype or ''}".rstrip()
    draft = f"{good.draft_model or good.model} {good.draft_dtype or good.dtype or ''}".rstrip()
    return f"{target}, good drafts by {draft}"
