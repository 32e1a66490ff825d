"""`forethought bench throughput`: load against a whole deployment, with and without speculation."""

import asyncio
import sys
from dataclasses import asdict, replace
from typing import Any

import typer
from rich.console import Console

from forethought.bench.generation_arm import generation_sender
from forethought.bench.kind_points import PLAIN, SPECULATIVE
from forethought.bench.load import Load, prompts_of_option
from forethought.bench.machine import describe_machine
from forethought.bench.plot import PlotError, require_plot, write_plot
from forethought.bench.report import print_table, write_document
from forethought.bench.schedule import Arm, Schedule
from forethought.bench.statistics import Row, summarise
from forethought.cli.bench import throughput_options as options
from forethought.cli.bench.deployment import (
    LocalOptions,
    measure_local,
    refuse_local_options,
    run_to_exit_code,
)
from forethought.cli.bench.throughput_report import (
    run_shown,
    throughput_json,
    throughput_plot,
    throughput_table,
)
from forethought.cli.failure import print_failure
from forethought.cli.options.connection import Connection, with_optional_connection
from forethought.cli.up import options as up_options
from forethought.generation import GenerationParams
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions


@with_optional_connection(options.Address)
def throughput(
    *,
    concurrency: options.Concurrency = "1,2,4,8,16,32",
    requests: options.Requests = None,
    repeats: options.Repeats = 3,
    prompts: options.Prompts = None,
    max_tokens: options.MaxTokens = 64,
    ignore_eos: options.IgnoreEos = False,
    temperature: options.Temperature = 0.0,
    seed: options.Seed = 0,
    timeout: options.Timeout = 600,
    connection: Connection | None,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    model: up_options.Model = DEFAULT_MODEL,
    draft_model: up_options.DraftModel = None,
    lookup: up_options.Lookup = None,
    counts: up_options.Counts = None,
    dtype: up_options.Dtype = None,
    device: up_options.Device = None,
    num_threads: up_options.NumThreads = None,
    port: up_options.Port = None,
    no_store: up_options.NoStore = False,
    log_dir: up_options.LogDir = None,
    startup_timeout: up_options.StartupTimeout = 300,
    as_json: options.AsJson = False,
    plot: options.PlotFile = None,
) -> None:
    """Measure a whole deployment over gRPC: tokens a second, time to first token, time per output
    token and acceptance at rising concurrency, plain (K = 0) and speculative in turns.

    With no --address it starts everything on this machine, and stops it afterwards.

    Examples:

    - `forethought bench throughput --concurrency 1,4 --repeats 5 --plot throughput.svg`

    - `forethought bench throughput --address orchestrator:50050 --json > throughput.json`
    """
    load = Load(
        prompts_of_option(prompts),
        GenerationParams(
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            ignore_eos=ignore_eos,
            num_speculative_tokens=num_speculative_tokens,
        ),
        Schedule(options.parse_counts(concurrency), repeats, requests),
        timeout,
    )
    plan = PlanOptions(
        model=model,
        draft_model=draft_model,
        lookup=up_options.lookups_of(lookup),
        counts=counts,
        num_speculative_tokens=num_speculative_tokens,
        dtype=dtype,
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
        rows = asyncio.run(_run(load, connection, local, errors))
        if plot is not None:
            write_plot(plot, throughput_plot(rows, _title(address, plan)))
    except (PlanError, PlotError) as error:
        print_failure(errors, error.message)
        raise typer.Exit(1) from error
    if as_json:
        settings = _settings(load, address, plan)
        write_document(sys.stdout, "throughput", machine, settings, throughput_json(rows, PLAIN))
    else:
        print_table(throughput_table(rows, PLAIN))


async def _run(
    load: Load, connection: Connection | None, local: LocalOptions, console: Console
) -> list[Row]:
    async def measure(at: Connection) -> list[Row]:
        return await _measure(load, at, console)

    if connection is not None:
        return await run_to_exit_code(measure(connection), connection.address, console)
    work = measure_local(local, lambda address: measure(Connection(address)), console)
    return await run_to_exit_code(work, "the local deployment", console)


async def _measure(load: Load, connection: Connection, console: Console) -> list[Row]:
    async with connection.client() as client:
        arms = [
            Arm(name, generation_sender(client, load.prompts, params, load.timeout_s))
            for name, params in (
                (PLAIN, replace(load.params, num_speculative_tokens=0)),
                (SPECULATIVE, load.params),
            )
        ]
        return summarise(await run_shown(arms, load.schedule, console))


def _settings(load: Load, address: str | None, plan: PlanOptions) -> dict[str, Any]:
    schedule = load.schedule
    return {
        "address": address,
        "deployment": None if address else asdict(plan),
        "concurrencies": schedule.concurrencies,
        "repeats": schedule.repeats,
        "num_requests": {c: schedule.num_requests_at(c) for c in schedule.concurrencies},
        "params": asdict(load.params),
        "num_prompts": len(load.prompts),
    }


def _title(address: str | None, plan: PlanOptions) -> str:
    if address is not None:
        return address
    return f"{plan.model}, drafts by {plan.drafts}"
