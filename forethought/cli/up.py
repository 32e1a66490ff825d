"""`forethought up`: every tier on this machine, each a process of its own."""

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import typer
from rich.console import Console

from forethought.cli import up_options as options
from forethought.cli.draft_check import check_draft
from forethought.cli.failure import print_failure
from forethought.cli.local import LocalDeployment, StartupTimeoutError, TierExitedError
from forethought.cli.plan import (
    DEFAULT_MODEL,
    Plan,
    PlanError,
    PlanOptions,
    make_plan,
    shipped_counts,
    shipped_draft,
)
from forethought.cli.probes import Readiness, probe_redis
from forethought.cli.process import (
    shell_exit_code,
    spawn_foreground,
    stop_processes,
    wait_for_processes,
)
from forethought.cli.signals import StopRequest, cancel_on_stop_signals
from forethought.cli.up_options import ProposerName
from forethought.cli.up_view import UpView

_COMMAND_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a plan."""

    log_dir: Path
    startup_timeout_s: float
    command: Sequence[str]  # empty: run until stopped


def up(
    command: options.Command = None,
    *,
    model: options.Model = DEFAULT_MODEL,
    draft_model: options.DraftModel = None,
    translate_draft: options.TranslateDraft = False,
    proposer: options.Proposer = None,
    counts: options.Counts = None,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    mode: options.Mode = None,
    dtype: options.Dtype = None,
    draft_dtype: options.DraftDtype = None,
    draft_min_prob: options.DraftMinProb = None,
    device: options.Device = None,
    num_threads: options.NumThreads = None,
    lookahead: options.Lookahead = None,
    port: options.Port = None,
    no_store: options.NoStore = False,
    redis_url: options.RedisUrl = None,
    log_dir: options.LogDir = Path(".forethought/logs"),
    startup_timeout: options.StartupTimeout = 300,
) -> None:
    """Start everything on this machine: target, draft, orchestrator and an embedded Valkey, each
    a process of its own; no draft where looking guesses up is all that pays.

    Waits until all are ready and says where each listens. One Ctrl-C stops all of them, a second
    one kills what is still running. If one ends by itself, its last words are shown and the rest
    is stopped (exit code 1).

    Example: `forethought up -- forethought generate --temperature 0 "Why is the sky blue?"`
    """
    if translate_draft and draft_model is None:
        raise typer.BadParameter("--translate-draft is for a --draft-model")
    plan_options = PlanOptions(
        model=model,
        translate_draft=translate_draft,
        draft_min_prob=draft_min_prob,
        num_speculative_tokens=num_speculative_tokens,
        verification_mode=None if mode is None else mode.value,
        dtype=dtype,
        draft_dtype=draft_dtype,
        device=device,
        num_threads=num_threads,
        lookahead=lookahead,
        port=port,
        embedded_store=not no_store,
        redis_url=_check_redis_url(redis_url, no_store=no_store),
    )
    chosen = choose_draft(model, proposer, draft_model, counts)
    plan_options = drafted_by(plan_options, chosen)
    command = command or []
    if command and shutil.which(command[0]) is None:
        raise typer.BadParameter(f"there is no program {command[0]!r}", param_hint="COMMAND")
    # stdout belongs to the command, if there is one.
    console = Console(stderr=bool(command))
    try:
        plan = make_plan(plan_options)
        code = asyncio.run(_run(plan, RunOptions(log_dir, startup_timeout, command), console))
    except PlanError as error:
        print_failure(Console(stderr=True), error.message)
        code = 1
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class DraftChoice:
    """Who drafts."""

    proposer: str | None  # of the draft tier; None: there is none
    model: str | None  # None: the target's
    counts: Path | None = None
    lookup: tuple[str, ...] = ()  # of the orchestrator, before it asks the draft tier


def drafted_by(options: PlanOptions, chosen: DraftChoice) -> PlanOptions:
    """The same plan with these drafts."""
    return replace(
        options,
        proposer=chosen.proposer,
        draft_model=chosen.model,
        counts=chosen.counts,
        lookup=chosen.lookup,
    )


def choose_draft(
    model: str,
    proposer: ProposerName | None,
    draft_model: str | None,
    counts: Path | None = None,
) -> DraftChoice:
    """Who drafts in a deployment with these options: what comes along for its target, if nothing
    else is named; raises as `choose_proposer` does.

    That is what the orchestrator looks up, which takes next to no time. Before a target as small as
    those that something comes along for, the way to a draft tier and the passes of its model cost
    more than they bring.
    """
    counted = shipped_counts(model)
    if draft_model is None and counts is None:
        if counted is not None and proposer is None:
            return DraftChoice(None, None, counted, ("suffix", "counts"))
        if counted is not None and proposer is ProposerName.COUNTS:
            return DraftChoice(proposer, None, counted)
        if proposer in (ProposerName.MODEL, ProposerName.HYBRID):
            return DraftChoice(proposer, shipped_draft(model))
    return DraftChoice(choose_proposer(proposer, draft_model, counts), draft_model, counts)


def choose_proposer(
    proposer: ProposerName | None, draft_model: str | None, counts: Path | None = None
) -> str:
    """The proposer of a deployment with these options.

    Raises:
        typer.BadParameter: they contradict each other.
    """
    lookups = (ProposerName.NGRAM, ProposerName.SUFFIX, ProposerName.COUNTS)
    if proposer in lookups and draft_model is not None:
        raise typer.BadParameter(
            f"the {proposer} proposer runs no model: "
            f"leave out --proposer {proposer} or --draft-model"
        )
    if counts is None and proposer is ProposerName.COUNTS:
        raise typer.BadParameter("the counts proposer needs --counts")
    if counts is None:
        return proposer or (ProposerName.NGRAM if draft_model is None else ProposerName.MODEL)
    if proposer not in (None, ProposerName.COUNTS, ProposerName.HYBRID):
        raise typer.BadParameter(
            f"the {proposer} proposer takes no counts: leave out --proposer {proposer} or --counts"
        )
    return proposer or ProposerName.HYBRID


def _check_redis_url(url: str | None, *, no_store: bool) -> str | None:
    if url is None:
        return None
    if no_store:
        raise typer.BadParameter("choose one of --no-store and --redis-url")
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname:
        raise typer.BadParameter(
            "expected redis://HOST:PORT or rediss://HOST:PORT", param_hint="--redis-url"
        )
    return url


async def _run(plan: Plan, run: RunOptions, console: Console) -> int:
    """Runs the plan until it is stopped, fails, or the command ends. Returns the exit code."""
    if plan.redis_url and await probe_redis(plan.redis_url) is not Readiness.READY:
        raise PlanError("no Redis or Valkey answers at the address given with --redis-url")
    view = UpView(console, plan)
    deployment = LocalDeployment(
        plan.tiers,
        run.log_dir,
        startup_timeout_s=run.startup_timeout_s,
        on_change=view.show_change,
    )
    with cancel_on_stop_signals() as stop:
        try:
            async with deployment:
                try:
                    return await _use(deployment, plan, run, view, stop)
                except asyncio.CancelledError:
                    view.show_stopping()
                    raise
                except (TierExitedError, StartupTimeoutError) as error:
                    view.show_failure(error, deployment)
                    return 1
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            # To stop what only runs until it is stopped is no failure.
            return 0 if view.said_ready and not run.command else stop.exit_code


async def _use(
    deployment: LocalDeployment, plan: Plan, run: RunOptions, view: UpView, stop: StopRequest
) -> int:
    with view.progress(deployment):
        await deployment.wait_until_ready()
        await check_draft(plan.tiers)
    view.show_ready(deployment, run.command)
    if not run.command:
        await deployment.watch()
    env = {**os.environ, "FORETHOUGHT_ADDRESS": plan.address}
    process = await spawn_foreground(run.command, env)
    watch = asyncio.create_task(deployment.watch())
    try:
        wait = asyncio.create_task(process.wait())
        await asyncio.wait({wait, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done():
            await watch
        return shell_exit_code(await wait)
    except asyncio.CancelledError:
        if stop.signal is signal.SIGINT:  # from the terminal, so that the command got it too
            await wait_for_processes([process], timeout_s=_COMMAND_GRACE_S)
        raise
    finally:
        watch.cancel()
        await stop_processes([process], grace_s=_COMMAND_GRACE_S)
