"""Which of several autoscalers may scale: the one that holds a Lease.

Clocks of machines are not compared. A lease is free when it has not changed for its whole time by
one's own clock; who holds it leads for less than that after the last time that it was renewed. So
two lead at once only where a clock runs much slower than another, and what they write then still
has to have been read before (`deployments.py`).
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from forethought.runtime.supervision import keep_running

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds; those of Kubernetes' own controllers."""

    duration_s: float = 15.0
    """After which a lease that was not renewed is free."""
    renew_within_s: float = 10.0
    """After which who could not renew it leads no longer."""
    retry_s: float = 2.0
    """Between two attempts, which are given as long."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who stands for which lease."""

    namespace: str
    lease: str
    identity: str  # of this process


@dataclass(frozen=True, slots=True)
class Clock:
    """By which it goes."""

    time: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Leadership:
    """Takes part in the election from now on.

    Args:
        api_client: of Kubernetes.
        candidate: who takes part.
        times: of the Lease.
        clock: by which it goes.
    """

    def __init__(
        self,
        api_client: Any,
        candidate: Candidate,
        times: LeaseTimes | None = None,
        clock: Clock | None = None,
    ) -> None:
        from kubernetes.aio import client  # noqa: PLC0415 - an extra

        self._client = client
        self._api = client.CoordinationV1Api(api_client)
        self._candidate = candidate
        self._times = times or LeaseTimes()
        self._clock = clock or Clock()
        self._seen: tuple[object, ...] = ()  # of the lease
        self._seen_s = self._clock.time()  # when it was so first
        self._leads_until_s = -math.inf
        self._was_leader = False
        self.problem = ""
        """Why the lease could not be asked for the last time."""
        self._task = keep_running("leader election", self._stand)

    @property
    def is_leader(self) -> bool:
        """Whether it may scale at this moment."""
        return self._clock.time() < self._leads_until_s

    async def close(self) -> None:
        """Takes part no longer, and gives the lease back, so that another one leads at once."""
        self._task.cancel()
        await asyncio.wait((self._task,))
        if self.is_leader:
            self._leads_until_s = -math.inf
            with suppress(*self._errors):
                await self._write(await self._read(), holder="")

    async def _stand(self) -> None:
        while True:
            await self._attempt()
            if self.is_leader is not self._was_leader:
                self._was_leader = self.is_leader
                event = "leads" if self._was_leader else "leads_no_longer"
                _log.info(event, identity=self._candidate.identity, why=self.problem)
            await self._clock.sleep(self._times.retry_s)

    async def _attempt(self) -> None:
        """Takes or renews the lease, if it may."""
        began_s = self._clock.time()
        try:
            is_held = await self._take(began_s)
        except self._errors as error:
            problem = str(getattr(error, "reason", "")) or str(error) or type(error).__name__
            if problem != self.problem:
                _log.warning("lease_not_asked", lease=self._candidate.lease, why=problem)
            self.problem = problem
            return
        self.problem = ""
        self._leads_until_s = began_s + self._times.renew_within_s if is_held else -math.inf

    async def _take(self, now_s: float) -> bool:
        """Whether the lease is this process's now."""
        try:
            lease = await self._read()
            if lease is None:
                await self._create()
                return True
            if not self._may_have(lease, now_s):
                return False
            await self._write(lease, holder=self._candidate.identity)
        except self._client.ApiException as error:
            if error.status == 409:  # somebody else was faster
                return False
            raise
        return True

    def _may_have(self, lease: Any, now_s: float) -> bool:
        spec = lease.spec
        holder = spec.holder_identity
        if holder in {None, "", self._candidate.identity}:
            return True
        seen = (holder, spec.renew_time, lease.metadata.resource_version)
        if seen != self._seen:
            self._seen, self._seen_s = seen, now_s
        return bool(now_s - self._seen_s >= (spec.lease_duration_seconds or 0))

    async def _read(self) -> Any:
        """The lease; None where there is none."""
        try:
            return await self._api.read_namespaced_lease(
                self._candidate.lease,
                self._candidate.namespace,
                _request_timeout=self._times.retry_s,
            )
        except self._client.ApiException as error:
            if error.status == 404:
                return None
            raise

    async def _create(self) -> None:
        lease = self._client.V1Lease(
            metadata=self._client.V1ObjectMeta(name=self._candidate.lease),
            spec=self._client.V1LeaseSpec(),
        )
        self._fill(lease.spec, self._candidate.identity)
        await self._api.create_namespaced_lease(
            self._candidate.namespace, lease, _request_timeout=self._times.retry_s
        )

    async def _write(self, lease: Any, *, holder: str) -> None:
        """With the version that was read: who has written since is the holder."""
        self._fill(lease.spec, holder)
        await self._api.replace_namespaced_lease(
            self._candidate.lease,
            self._candidate.namespace,
            lease,
            _request_timeout=self._times.retry_s,
        )

    def _fill(self, spec: Any, holder: str) -> None:
        now = datetime.now(UTC)
        if spec.holder_identity != holder:
            spec.acquire_time = now
            spec.lease_transitions = (spec.lease_transitions or 0) + 1
        spec.holder_identity, spec.renew_time = holder, now
        spec.lease_duration_seconds = math.ceil(self._times.duration_s)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        from aiohttp import ClientError  # noqa: PLC0415 - comes with the client

        return (self._client.ApiException, ClientError, TimeoutError, OSError)
