"""The deployment that a benchmark measures: one that runs already, or one started for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console

from forethought.cli.failure import print_failed_call
from forethought.cli.options.config_option import config_of_environment
from forethought.cli.signals import cancel_on_stop_signals
from forethought.cli.up.view import UpView
from forethought.errors import ForethoughtError
from forethought.local.plan.model_check import check_models
from forethought.local.plan.plan import Plan, planned
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.processes.local_deployment import (
    LocalDeployment,
    StartupTimeoutError,
    TierExitedError,
)

T = TypeVar("T")
Measure = Callable[[str], Awaitable[T]]
"""Measures what answers at an address (`host:port` of an orchestrator)."""


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What to start, and how."""

    plan: PlanOptions
    log_dir: Path | None
    startup_timeout_s: float


def refuse_local_options(plan: PlanOptions) -> None:
    """Of a benchmark of a running deployment: a model that was named but not measured would make
    the numbers lie.

    Raises:
        typer.BadParameter: the plan says more than what such a benchmark sends.
    """
    defaults = PlanOptions(
        num_speculative_tokens=plan.num_speculative_tokens, embedded_store=plan.embedded_store
    )
    if plan != defaults:
        raise typer.BadParameter(
            "with --address the models are the running deployment's: leave out the options that "
            "say what to start"
        )


async def measure_local(options: LocalOptions, measure: Measure[T], console: Console) -> T:
    """Starts all tiers on this machine, measures them, and stops them.

    Raises:
        PlanError: it cannot be started with these options.
        TierExitedError, StartupTimeoutError: a tier failed; its last words were printed to stderr.
        Exception: what `measure` raised while all tiers ran.
    """
    check_models(options.plan.model, options.plan.draft_model)
    with planned(options.plan, options.log_dir, config_of_environment()) as plan:
        return await _measure_planned(plan, options.startup_timeout_s, measure, console)


async def _measure_planned(
    plan: Plan, startup_timeout_s: float, measure: Measure[T], console: Console
) -> T:
    view = UpView(console, plan)
    deployment = LocalDeployment(
        plan.tiers,
        plan.log_dir,
        startup_timeout_s=startup_timeout_s,
        on_change=view.show_change,
    )
    async with deployment:
        try:
            with view.progress(deployment):
                await deployment.wait_until_ready()
            return await _measure_watched(deployment, measure, plan.address)
        except (TierExitedError, StartupTimeoutError) as error:
            view.show_failure(error, deployment)
            raise


async def _measure_watched(deployment: LocalDeployment, measure: Measure[T], address: str) -> T:
    """A tier that ends is what matters, not the requests that fail because of it."""
    watch = asyncio.ensure_future(deployment.watch())
    work = asyncio.ensure_future(measure(address))
    try:
        await asyncio.wait({work, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            await watch
        return await work
    finally:
        for task in (work, watch):
            task.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)


async def run_to_exit_code(work: Awaitable[T], called: str, console: Console) -> T:
    """Waits for a measurement; stops it on Ctrl-C, and prints why it failed.

    Args:
        work: what to wait for.
        called: whom it measures, in words.
        console: where failures are printed.

    Raises:
        typer.Exit: it was stopped, or it failed, with the exit code that says so.
        PlanError: a deployment cannot be started with these options.
    """
    with cancel_on_stop_signals() as stop:
        try:
            return await work
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            raise typer.Exit(stop.exit_code) from None
        except PlanError:
            raise
        except (TierExitedError, StartupTimeoutError) as error:  # printed already
            raise typer.Exit(1) from error
        except ForethoughtError as error:
            print_failed_call(console, error, called, began=False)
            raise typer.Exit(1) from error
