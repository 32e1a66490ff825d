"""`forethought up`: every tier on this machine, each a process of its own."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import typer
from rich.console import Console

from forethought.cli.options.config_option import read_tier_config
from forethought.cli.options.connection import VARIABLES
from forethought.cli.signals import StopRequest, cancel_on_stop_signals
from forethought.cli.up import options
from forethought.cli.up.view import UpView
from forethought.cli.views.served import describe_deployment
from forethought.configuration.store_url import describe_url_problem
from forethought.errors import ForethoughtError
from forethought.extras import is_installed
from forethought.local.draft_check import check_draft
from forethought.local.plan.defaults import DEFAULT_MODEL, HOST
from forethought.local.plan.model_check import check_models
from forethought.local.plan.plan import Plan, planned
from forethought.local.plan.plan_error import PlanError
from forethought.local.plan.plan_options import PlanOptions
from forethought.local.plan.tier_config import TierConfig
from forethought.local.processes.local_deployment import (
    LocalDeployment,
    StartupTimeoutError,
    TierExitedError,
)
from forethought.local.processes.process import (
    shell_exit_code,
    spawn_foreground,
    stop_processes,
    wait_for_processes,
)
from forethought.models.files.shipped import shipped_counts

_COMMAND_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a plan."""

    startup_timeout_s: float
    command: Sequence[str]  # empty: run until stopped


def up(
    command: options.Command = None,
    *,
    model: options.Model = DEFAULT_MODEL,
    draft_model: options.DraftModel = None,
    translate_draft: options.TranslateDraft = False,
    lookup: options.Lookup = None,
    counts: options.Counts = None,
    policy: options.Policy = None,
    num_speculative_tokens: options.NumSpeculativeTokens = None,
    mode: options.Mode = None,
    generation_config: options.GenerationConfig = None,
    dtype: options.Dtype = None,
    draft_dtype: options.DraftDtype = None,
    draft_min_prob: options.DraftMinProb = None,
    draft_vocab_size: options.DraftVocabSize = None,
    device: options.Device = None,
    num_threads: options.NumThreads = None,
    lookahead: options.Lookahead = None,
    kv_memory: options.KvMemory = None,
    max_model_len: options.MaxModelLen = None,
    max_sessions: options.MaxSessions = None,
    config: options.Config = None,
    host: options.Host = HOST,
    insecure: options.Insecure = False,
    port: options.Port = None,
    http_port: options.HttpPort = None,
    no_store: options.NoStore = False,
    redis_url: options.RedisUrl = None,
    log_dir: options.LogDir = None,
    startup_timeout: options.StartupTimeout = 300,
) -> None:
    """Start everything on this machine: target, draft, orchestrator, gateway and an embedded
    Valkey, each a process of its own; the draft where a --draft-model is named.

    Waits until all are ready and says where each listens. One Ctrl-C stops all of them, a second
    one kills what is still running. If one ends by itself, its last words are shown and the rest
    is stopped (exit code 1).

    Example: `forethought up -- forethought generate --temperature 0 "Why is the sky blue?"`
    """
    of_a_draft = {
        "--translate-draft": translate_draft or None,
        "--draft-dtype": draft_dtype,
        "--draft-min-prob": draft_min_prob,
        "--draft-vocab-size": draft_vocab_size,
    }
    for flag, value in of_a_draft.items():
        if value is not None and draft_model is None:
            raise typer.BadParameter(f"{flag} is for a --draft-model")
    plan_options = PlanOptions(
        model=model,
        draft_model=draft_model,
        lookup=options.lookups_of(lookup),
        counts=counts,
        translate_draft=translate_draft,
        draft_min_prob=draft_min_prob,
        draft_vocab_size=draft_vocab_size,
        num_speculative_tokens=num_speculative_tokens,
        policy=None if policy is None else policy.value,
        verification_mode=None if mode is None else mode.value,
        generation_config=None if generation_config is None else generation_config.value,
        dtype=dtype,
        draft_dtype=draft_dtype,
        device=device,
        num_threads=num_threads,
        lookahead=lookahead,
        kv_memory=kv_memory,
        max_model_len=max_model_len,
        max_sessions=max_sessions,
        host=host,
        insecure=insecure,
        port=port,
        has_gateway=http_port != 0 and is_installed("uvicorn"),
        http_port=http_port,
        embedded_store=not no_store,
        redis_url=_check_redis_url(redis_url, no_store=no_store),
    )
    tiers = read_tier_config(config)
    _check_counts(plan_options, tiers)
    command = command or []
    if command and shutil.which(command[0]) is None:
        raise typer.BadParameter(f"there is no program {command[0]!r}", param_hint="COMMAND")
    check_models(model, draft_model)
    # stdout belongs to the command, if there is one.
    console = Console(stderr=bool(command))
    with planned(plan_options, log_dir, tiers) as plan:
        code = asyncio.run(_run(plan, RunOptions(startup_timeout, command), console))
    raise typer.Exit(code)


def _check_counts(options: PlanOptions, tiers: TierConfig) -> None:
    """Says by its option what the orchestrator would say by its setting, and only later."""
    if "counts" not in (options.lookup or ()) or options.counts is not None:
        return
    if tiers.get("orchestrator", "counts_file") is None and shipped_counts(options.model) is None:
        raise typer.BadParameter("counts are looked up in a file: name it with --counts")


def _check_redis_url(url: str | None, *, no_store: bool) -> str | None:
    if url is None:
        return None
    if no_store:
        raise typer.BadParameter("choose one of --no-store and --redis-url")
    if problem := describe_url_problem(url):
        raise typer.BadParameter(problem, param_hint="--redis-url")
    return url


async def _check_store(url: str, console: Console) -> None:
    """Refuses a store that cannot be used before a process starts.

    Raises:
        PlanError: it says why.
    """
    from forethought.configuration.store_settings import shows_password  # noqa: PLC0415
    from forethought.store.start_check import require_store, sessions_are_kept  # noqa: PLC0415

    if shows_password(sys.argv[1:]):
        console.print(
            "The password of --redis-url can be read by everybody on this machine: "
            "give the URL by FORETHOUGHT_UP_REDIS_URL instead.",
            style="yellow",
        )
    try:
        await require_store(url, sessions_are_kept, patience_s=0)
    except ForethoughtError as error:
        what = error.message.replace("the store (redis_url)", "the store")
        raise PlanError(f"--redis-url: {what}") from error


async def _run(plan: Plan, run: RunOptions, console: Console) -> int:
    """Runs the plan until it is stopped, fails, or the command ends. Returns the exit code."""
    if plan.redis_url:
        await _check_store(plan.redis_url, console)
    view = UpView(console, plan)
    deployment = LocalDeployment(
        plan.tiers,
        plan.log_dir,
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
    view.show_ready(deployment, run.command, await describe_deployment(plan.address))
    if not run.command:
        await deployment.watch()
    others = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    env = {**others, "FORETHOUGHT_ADDRESS": plan.address}
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
