"""The sessions that a tier holds, and the work it does for them in the engine's thread."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, TypeVar

import structlog

from forethought.engine.worker import EngineWorker
from forethought.errors import DrainingError, OverloadedError
from forethought.tier import RoundTimings, TierLoad

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)

PREFILL_CHUNK = 512
"""Tokens computed in one go, so that a long prompt lets other sessions through in between."""

RETRY_AFTER_S = 1.0


class SessionState(Protocol):
    """What a tier keeps for a session. Its methods run in the engine's thread only."""

    @property
    def num_cached_tokens(self) -> int:
        """Tokens with keys and values in memory. Read in the event loop, while a job may run."""
        ...

    def prefill(self, max_tokens: int) -> bool:
        """Computes a chunk of the committed tokens; returns whether more are left."""
        ...

    def release(self) -> None:
        """Frees the keys and values."""
        ...


class SessionTable:
    """Admits sessions up to a limit, runs their work, and frees what they held."""

    def __init__(self, worker: EngineWorker, max_sessions: int) -> None:
        self._worker = worker
        self._max_sessions = max_sessions
        self._states: set[SessionState] = set()
        self._releases: set[asyncio.Task[None]] = set()

    def load(self) -> TierLoad:
        """What is held now. A closed session counts until its memory is free."""
        return TierLoad(
            num_sessions=len(self._states),
            num_cached_tokens=sum(state.num_cached_tokens for state in self._states),
            num_queued_jobs=self._worker.num_queued_jobs,
        )

    def admit(self, state: SessionState) -> None:
        """Takes a session in.

        Raises:
            OverloadedError: there is no room.
        """
        if len(self._states) >= self._max_sessions:
            raise OverloadedError(
                f"{self._max_sessions} sessions are open, the most this tier takes",
                retry_after_s=RETRY_AFTER_S,
            )
        self._states.add(state)

    async def prefill(self, state: SessionState) -> None:
        """Computes all that can be computed before the first round."""
        more = True
        while more:
            more, _ = await self._worker.run(lambda: state.prefill(PREFILL_CHUNK))

    async def run(self, job: Callable[[], Result]) -> tuple[Result, RoundTimings]:
        """Runs a job for a session and says where the time went."""
        arrival = time.perf_counter_ns()
        result, timings = await self._worker.run(job)
        return result, RoundTimings(
            queue_ns=timings.queue_ns,
            forward_ns=timings.run_ns,
            total_ns=time.perf_counter_ns() - arrival,
        )

    def discard(self, state: SessionState) -> None:
        """Frees a session, after any job that still runs for it. Returns at once."""
        task = asyncio.get_running_loop().create_task(self._release(state))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _release(self, state: SessionState) -> None:
        try:
            # A closed worker means that the process ends, and its memory with it.
            with suppress(DrainingError):
                await self._worker.run(state.release)
        except Exception:  # noqa: BLE001 - nobody waits for this task, who could be told
            _log.exception("session_release_failed")
        finally:
            self._states.discard(state)
