"""A deployment on one machine: one process a tier, started, watched and stopped together.

    async with LocalDeployment(tiers, log_dir) as deployment:
        await deployment.wait_until_ready()
        await deployment.watch()

It prints nothing. Tiers start all at once; each says by its probe when it is ready. Leaving the
context stops them: SIGTERM, then SIGKILL to what still runs after the grace period. Should this
process be killed, the kernel kills the tiers (see `die_with_parent`).
"""

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import NoReturn, Self

from forethought.errors import ForethoughtError
from forethought.local.processes.last_words import find_cause, read_last_lines
from forethought.local.processes.probes import Probe, Readiness
from forethought.local.processes.process import (
    describe_exit,
    spawn_background,
    stop_processes,
    wait_for_processes,
)

_POLL_S = 0.1
_GRACE_BEFORE_READY_S = 1.0  # nothing is served yet, so there is nothing to finish


@dataclass(frozen=True, slots=True)
class Tier:
    """A process to run, and how to see that it is ready."""

    name: str
    command: Sequence[str]
    address: str  # what the probe gets, and what a reader is shown
    probe: Probe
    environment: Mapping[str, str] = field(default_factory=dict)  # besides this process's


class TierState(Enum):
    """How far a tier is."""

    STARTING = "starting"  # the process runs, nothing listens
    LOADING = "loading"  # it listens and loads its model
    READY = "ready"
    EXITED = "exited"


class TierExitedError(ForethoughtError):
    """A tier's process ended though nobody asked it to."""

    code = "UNAVAILABLE"
    reason = "TIER_EXITED"

    def __init__(self, name: str, returncode: int, log_path: Path) -> None:
        self.last_lines = read_last_lines(log_path)
        self.cause = find_cause(self.last_lines)
        ended = f"{name} {describe_exit(returncode)}"
        super().__init__(f"{name} cannot start: {self.cause}" if self.cause else ended)
        self.name = name
        self.log_path = log_path


class StartupTimeoutError(ForethoughtError):
    """Some tiers were not ready in time."""

    code = "DEADLINE_EXCEEDED"
    reason = "STARTUP_TIMEOUT"


class RunningTier:
    """A tier with its process: what a display reads."""

    def __init__(self, tier: Tier, log_path: Path, process: Process) -> None:
        self.tier = tier
        self.log_path = log_path
        self.process = process
        self._readiness = Readiness.AWAY
        self._started_at = perf_counter()
        self._settled_at: float | None = None  # when it was ready

    @property
    def state(self) -> TierState:
        """How far it is now."""
        if self.process.returncode is not None:
            return TierState.EXITED
        return {
            Readiness.AWAY: TierState.STARTING,
            Readiness.LOADING: TierState.LOADING,
            Readiness.READY: TierState.READY,
        }[self._readiness]

    @property
    def seconds(self) -> float:
        """From the start to now, or to the moment when it was ready."""
        return (self._settled_at or perf_counter()) - self._started_at

    async def look(self) -> None:
        """Probes it, unless it was ready before."""
        if self._settled_at is not None:
            return
        found = await self.tier.probe(self.tier.address)
        # Who loads may be too busy to answer; that is no way back.
        if found is not Readiness.AWAY:
            self._readiness = found
        if self._readiness is Readiness.READY:
            self._settled_at = perf_counter()


class LocalDeployment:
    """Starts tiers on entering, stops them on leaving. Use it in the main thread.

    Args:
        tiers: what to run.
        log_dir: folder for one `<name>.log` a tier; those of an earlier run are replaced.
        startup_timeout_s: how long `wait_until_ready` waits, seconds.
        grace_s: how long a tier may take to end after SIGTERM, seconds.
        on_change: called with a tier whenever its state changed during `wait_until_ready`.
    """

    def __init__(
        self,
        tiers: Sequence[Tier],
        log_dir: Path,
        *,
        startup_timeout_s: float = 300,
        grace_s: float = 15,
        on_change: Callable[[RunningTier], None] = lambda _: None,
    ) -> None:
        self._tiers = tiers
        self.log_dir = log_dir
        self._startup_timeout_s = startup_timeout_s
        self._grace_s = grace_s
        self._on_change = on_change
        self._was_ready = False
        self.running: list[RunningTier] = []

    async def __aenter__(self) -> Self:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        try:
            for tier in self._tiers:
                self.running.append(await self._start(tier))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _start(self, tier: Tier) -> RunningTier:
        log_path = self.log_dir / f"{tier.name}.log"
        log_path.unlink(missing_ok=True)  # another deployment may still write to the old file
        with log_path.open("ab") as log:
            environment = {**os.environ, **tier.environment}
            process = await spawn_background(tier.command, log, environment)
            running = RunningTier(tier, log_path, process)
        self._on_change(running)
        return running

    async def wait_until_ready(self) -> None:
        """Returns when all tiers are ready.

        Raises:
            TierExitedError: one ended instead.
            StartupTimeoutError: some were not ready in time.
        """
        try:
            async with asyncio.timeout(self._startup_timeout_s):
                while not all(running.state is TierState.READY for running in self.running):
                    self._raise_if_exited()
                    await asyncio.gather(*(self._look(running) for running in self.running))
                    await asyncio.sleep(_POLL_S)
            self._was_ready = True
        except TimeoutError:
            late = [
                f"{running.tier.name} ({running.state.value})"
                for running in self.running
                if running.state is not TierState.READY
            ]
            raise StartupTimeoutError(
                f"not ready after {self._startup_timeout_s:g} s: {', '.join(late)}"
            ) from None

    async def _look(self, running: RunningTier) -> None:
        before = running.state
        await running.look()
        if running.state is not before:
            self._on_change(running)

    async def watch(self) -> NoReturn:
        """Waits for a tier to end.

        Raises:
            TierExitedError: one did.
        """
        while True:
            self._raise_if_exited()
            await wait_for_processes(
                [running.process for running in self.running], until=asyncio.FIRST_COMPLETED
            )

    async def stop(self) -> None:
        """Stops what runs. A cancelled stop kills, and still waits for the end of all."""
        grace_s = self._grace_s if self._was_ready else min(self._grace_s, _GRACE_BEFORE_READY_S)
        await stop_processes([running.process for running in self.running], grace_s=grace_s)

    def _raise_if_exited(self) -> None:
        exited = [running for running in self.running if running.process.returncode is not None]
        errors = [
            TierExitedError(running.tier.name, running.process.returncode or 0, running.log_path)
            for running in exited
        ]
        # One that says why is worth more than one that was lost with it.
        if errors:
            raise min(errors, key=lambda error: not error.cause)
