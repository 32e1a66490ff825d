"""Who may generate: places for requests under way, shared out between tenants.

A tenant's requests hold the places that `forethought.shares` grants, so that the tenant which
holds most is refused first. A request gives its place back when it ends, at the latest when

- it has taken the deployment's longest duration,
- its client has read nothing for so long that nobody seems to read, or
- its client reads nothing for a short while, and another request needs the place.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from forethought.errors import (
    DurationExceededError,
    ForethoughtError,
    OverloadedError,
    UnreadStreamError,
)
from forethought.runtime.wait_limit import WaitLimit
from forethought.shares import Shares


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """How many requests, and for how long."""

    max_requests: int = 256
    """Most requests under way at a time."""
    max_duration_s: float = 3600.0
    """A request that takes longer is ended."""
    unread_timeout_s: float = 30.0
    """A stream of which nothing is read for so long is ended."""
    yield_after_s: float = 5.0
    """A stream of which nothing is read for so long gives way where a place is missing."""


class Refusal(Enum):
    """Why a request found no place."""

    FULL = "full"  # all are taken
    TENANT = "tenant"  # its tenant's share is


class AdmittedRequest:
    """A request that has a place, and may generate."""

    def __init__(self, tenant: str, limits: AdmissionLimits) -> None:
        self.tenant = tenant
        self.unread_since_s: float | None = None
        """When the message was written that the client does not take; by the loop's clock."""
        self._limits = limits
        self._scope = asyncio.timeout(limits.max_duration_s)
        self._unread = WaitLimit(limits.unread_timeout_s)
        self._is_needed = False

    async def deliver(self, write: Awaitable[None]) -> None:
        """Waits until the client has taken a message.

        Raises:
            UnreadStreamError: it does not.
        """
        self.unread_since_s = asyncio.get_running_loop().time()
        try:
            await self._unread.wait(write)
        except TimeoutError:
            raise UnreadStreamError(
                f"nothing of the answer was read for {self._limits.unread_timeout_s:g} s"
            ) from None
        self.unread_since_s = None

    def leave(self) -> None:
        """Ends the request, whose place another one needs."""
        self._is_needed = True
        if not self._scope.expired():
            self._scope.reschedule(0)

    @asynccontextmanager
    async def limited(self) -> AsyncGenerator[None]:
        """The request's work, in time.

        Raises:
            DurationExceededError: it takes too long.
            UnreadStreamError: nobody reads what it brings, and another request needs the place.
        """
        try:
            async with self._scope:
                yield
        except TimeoutError:
            if self._scope.expired():
                raise self._reason() from None
            raise
        finally:
            self._unread.close()

    def _reason(self) -> ForethoughtError:
        limits = self._limits
        if self._is_needed:
            return UnreadStreamError(
                f"nothing of the answer was read for {limits.yield_after_s:g} s, and other "
                "requests wait for its place"
            )
        return DurationExceededError(
            f"the request took longer than {limits.max_duration_s:g} s, the most that this "
            "deployment allows"
        )


class Admission:
    """The places of one orchestrator."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self._limits = limits
        self._shares = Shares(limits.max_requests)
        self._admitted: set[AdmittedRequest] = set()
        self.num_refused = dict.fromkeys(Refusal, 0)
        """Requests that found no place, since the process began."""

    @property
    def num_requests(self) -> int:
        """Requests under way."""
        return self._shares.num_taken

    @property
    def max_requests(self) -> int:
        """Most that there may be."""
        return self._shares.total

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncGenerator[AdmittedRequest]:
        """A place for one request of a tenant, until the block is left.

        Raises:
            OverloadedError: there is none.
            DurationExceededError: the block takes too long.
            UnreadStreamError: nobody reads what it brings.
        """
        if not self._shares.has_room(tenant):
            self._make_room(tenant)
        admitted = AdmittedRequest(tenant, self._limits)
        self._shares.take(tenant)
        self._admitted.add(admitted)
        try:
            async with admitted.limited():
                yield admitted
        finally:
            self._give_back(admitted)

    def _make_room(self, tenant: str) -> None:
        """Ends a request that nobody reads: of the tenant, or else of one with more places, of
        whoever has most."""
        now_s = asyncio.get_running_loop().time()
        held = self._shares.held_by
        unread = [
            (each.tenant == tenant, held(each.tenant), now_s - since_s, each)
            for each in self._admitted
            if (since_s := each.unread_since_s) is not None
            and now_s - since_s >= self._limits.yield_after_s
            and (each.tenant == tenant or held(each.tenant) > held(tenant))
        ]
        for *_, each in sorted(unread, key=lambda found: found[:3], reverse=True):
            self._shares.give_back(each.tenant)
            if self._shares.has_room(tenant):
                self._admitted.remove(each)
                each.leave()
                return
            self._shares.take(each.tenant)
        raise OverloadedError(self._refuse(tenant))

    def _give_back(self, admitted: AdmittedRequest) -> None:
        if admitted in self._admitted:
            self._admitted.remove(admitted)
            self._shares.give_back(admitted.tenant)

    def _refuse(self, tenant: str) -> str:
        """Counts a refusal, and says why."""
        total, held = self._shares.total, self._shares.held_by(tenant)
        if self._shares.num_taken >= total:
            self.num_refused[Refusal.FULL] += 1
            return f"{total} requests are under way, the most this orchestrator takes"
        self.num_refused[Refusal.TENANT] += 1
        return (
            f"{held} of {total} places are taken by requests of the same tenant; "
            "the rest is for other tenants"
        )
