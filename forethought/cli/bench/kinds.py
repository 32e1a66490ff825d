"""`forethought bench kinds`: what speculation brings for each kind of prompt.

How much of a draft is accepted depends on what is said more than on anything else. For each kind
and temperature a deployment runs plain (K = 0) and speculative in turns, one request at a time, so
that what else the machine does disturbs both alike.
"""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from forethought.bench.bar_plot import write_bar_plot
from forethought.bench.closed_loop import Burst
from forethought.bench.generation_arm import generation_sender
from forethought.bench.kind_points import PLAIN, SPECULATIVE, KindPoint, points_of
from forethought.bench.machine import describe_machine
from forethought.bench.plot import PlotError, require_plot
from forethought.bench.prompts import PromptFileError, load_kinds
from forethought.bench.report import print_table, write_document
from forethought.bench.schedule import Arm, Schedule, run_interleaved
from forethought.cli.bench import kinds_options
from forethought.cli.bench import throughput_options as options
from forethought.cli.bench.deployment import (
    LocalOptions,
    measure_local,
    refuse_local_options,
    run_to_exit_code,
)
from forethought.cli.bench.kinds_report import kinds_json, kinds_plot, kinds_table
from forethought.cli.bench.throughput_report import ProgressView
from forethought.cli.failure import print_failure
from forethought.cli.options.connection import Connection, with_optional_connection
from forethought.cli.up import options as up_options
from forethought.client import GenerationClient
from forethought.generation import ChatMessage, GenerationParams
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions

Kinds = Mapping[str, Sequence[list[ChatMessage]]]


@dataclass(frozen=True, slots=True)
class KindsLoad:
    """What is sent, and how often."""

    kinds: Kinds
    temperatures: tuple[float, ...]
    params: GenerationParams  # of the speculative arm; the temperature is one of those above
    repeats: int
    num_requests: int | None  # of a run; None: one for each prompt
    timeout_s: float

    def schedule(self, kind: str) -> Schedule:
        return Schedule((1,), self.repeats, self.num_requests or len(self.kinds[kind]))

    @property
    def num_requests_in_all(self) -> int:
        of_arm = sum(self.schedule(kind).num_requests_at(1) for kind in self.kinds)
        return 2 * self.repeats * len(self.temperatures) * of_arm


@with_optional_connection(options.Address)
def kinds(
    *,
    prompts: kinds_options.PromptFolder = Path("benchmarks/prompts"),
    temperature: kinds_options.Temperatures = "0,1",
    requests: kinds_options.Requests = None,
    repeats: kinds_options.Repeats = 3,
    max_tokens: options.MaxTokens = 64,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600,
    connection: Connection | None,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    model: up_options.Model = DEFAULT_MODEL,
    draft_model: up_options.DraftModel = None,
    lookup: up_options.Lookup = None,
    counts: up_options.Counts = None,
    dtype: up_options.Dtype = None,
    draft_dtype: up_options.DraftDtype = None,
    device: up_options.Device = None,
    num_threads: up_options.NumThreads = None,
    port: up_options.Port = None,
    no_store: up_options.NoStore = False,
    log_dir: up_options.LogDir = None,
    startup_timeout: up_options.StartupTimeout = 300,
    as_json: options.AsJson = False,
    plot: options.PlotFile = None,
) -> None:
    """Measure what speculation brings for each kind of prompt: acceptance and tokens a second of a
    whole deployment over gRPC, speculative against plain (K = 0) in turns, one request at a time.

    With no --address it starts everything on this machine, and stops it afterwards.

    Examples:

    - `forethought bench kinds --dtype bfloat16 --plot kinds.svg`

    - `forethought bench kinds --lookup suffix --temperature 0 --json > kinds.json`
    """
    load = KindsLoad(
        _kinds_of_option(prompts),
        kinds_options.parse_temperatures(temperature),
        GenerationParams(
            max_tokens=max_tokens, seed=seed, num_speculative_tokens=num_speculative_tokens
        ),
        repeats,
        requests,
        timeout,
    )
    plan = PlanOptions(
        model=model,
        draft_model=draft_model,
        lookup=up_options.lookups_of(lookup),
        counts=counts,
        num_speculative_tokens=num_speculative_tokens,
        dtype=dtype,
        draft_dtype=draft_dtype,
        device=device,
        num_threads=num_threads,
        port=port,
        embedded_store=not no_store,
    )
    address = None if connection is None else connection.address
    if address is not None:
        refuse_local_options(plan)
    local = LocalOptions(plan, log_dir, startup_timeout)
    machine = describe_machine()
    errors = Console(stderr=True)
    try:
        if plot is not None:
            require_plot(plot)
        points = asyncio.run(_run(load, connection, local, errors))
        if plot is not None:
            title = address or f"{plan.model}, drafts by {plan.drafts}"
            write_bar_plot(plot, kinds_plot(points, title))
    except (PlanError, PlotError) as error:
        print_failure(errors, error.message)
        raise typer.Exit(1) from error
    if as_json:
        write_document(
            sys.stdout, "kinds", machine, _settings(load, address, plan), kinds_json(points)
        )
    else:
        print_table(kinds_table(points))


def _kinds_of_option(folder: Path) -> Kinds:
    if not folder.is_dir():
        raise typer.BadParameter(
            f"there is no folder {folder}: the prompts are in benchmarks/prompts of the "
            "repository; run this there, or name a folder",
            param_hint="--prompts",
        )
    try:
        return load_kinds(folder)
    except PromptFileError as error:
        raise typer.BadParameter(str(error), param_hint="--prompts") from error


async def _run(
    load: KindsLoad, connection: Connection | None, local: LocalOptions, console: Console
) -> list[KindPoint]:
    async def measure(at: Connection) -> list[KindPoint]:
        return await measure_kinds(load, at, console)

    if connection is not None:
        return await run_to_exit_code(measure(connection), connection.address, console)
    work = measure_local(local, lambda address: measure(Connection(address)), console)
    return await run_to_exit_code(work, "the local deployment", console)


async def measure_kinds(
    load: KindsLoad, connection: Connection, console: Console
) -> list[KindPoint]:
    """Temperature after temperature and kind after kind.

    Raises:
        ForethoughtError: a request failed.
    """
    view = ProgressView(console, load.num_requests_in_all)
    points = []
    async with connection.client() as client:
        with view.live():
            await _introduce(load, client)
            for temperature in load.temperatures:
                bursts: dict[str, list[Burst]] = {}
                for kind in load.kinds:
                    console.print(f"{kind}, temperature {temperature:g}", highlight=False)
                    arms = _arms(load, kind, temperature, client)
                    bursts[kind] = await run_interleaved(arms, load.schedule(kind), view)
                points += points_of(temperature, bursts)
    return points


async def _introduce(load: KindsLoad, client: GenerationClient) -> None:
    """Lets the target compute the prompts: else the arm that sends one first would seem slower."""
    params = replace(load.params, max_tokens=1, num_speculative_tokens=0)
    for kind, prompts in load.kinds.items():
        send = generation_sender(client, prompts, params, load.timeout_s)
        for index in range(min(len(prompts), load.schedule(kind).num_requests_at(1))):
            await send(index)


def _arms(load: KindsLoad, kind: str, temperature: float, client: GenerationClient) -> list[Arm]:
    params = replace(load.params, temperature=temperature)
    plain = replace(params, num_speculative_tokens=0)
    return [
        Arm(name, generation_sender(client, load.kinds[kind], its_params, load.timeout_s))
        for name, its_params in ((PLAIN, plain), (SPECULATIVE, params))
    ]


def _settings(load: KindsLoad, address: str | None, plan: PlanOptions) -> dict[str, Any]:
    return {
        "address": address,
        "deployment": None if address else asdict(plan),
        "temperatures": load.temperatures,
        "repeats": load.repeats,
        "num_requests": {kind: load.schedule(kind).num_requests_at(1) for kind in load.kinds},
        "params": asdict(load.params),
    }
