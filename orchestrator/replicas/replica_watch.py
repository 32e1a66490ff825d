"""Watches replicas: who is open to sessions, what they serve, and how much they hold.

Two things are going on for each replica. Its *health* is streamed (`grpc.health.v1` Watch), so that
draining and death are known at once; a dead one is looked for again after growing pauses, by one
probe at a time. While it is healthy it is *asked* every second what it serves and holds. A process
that hangs keeps its connections: it fails to answer these questions, and its breaker ejects it
until it answers one.

Names are resolved every few seconds, and every second while a replica does not serve. Replicas
whose record has gone are left by their sessions, and cut off after a minute.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from forethought.deployment import Standing
from forethought.errors import ForethoughtError
from forethought.rpc.connections.channels import KeepAlive, open_channel
from forethought.rpc.connections.name_resolution import NameResolver, server_name
from forethought.rpc.connections.traffic import counted
from forethought.rpc.security.tls import ChannelCredentials
from forethought.rpc.status import error_from_rpc
from forethought.runtime.supervision import keep_running, start
from forethought.store.server.breaker import Breaker, BreakerState
from orchestrator.replicas.replica import SILENCE, Replica, StubT, TierKind
from orchestrator.replicas.replica_set import Refusal, ReplicaSet, anything

_log = structlog.get_logger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How closely replicas are watched."""

    poll_s: float = 1.0
    """Between two questions to a replica."""
    poll_timeout_s: float = 1.0
    """For the answer."""
    resolve_s: float = 5.0
    """Between two looks at what names stand for, while all their replicas serve."""
    resolve_soon_s: float = 1.0
    """Else, and at least: one that does not serve may have been replaced."""
    first_pause_s: float = 0.1
    max_pause_s: float = 2.0
    """Until a replica that does not answer is probed again; doubles up to the longest."""
    leaving_grace_s: float = 60.0
    """For the sessions of a replica whose record has gone."""
    keep_alive: KeepAlive | None = None
    credentials: ChannelCredentials | None = None
    """None speaks plain text."""


@asynccontextmanager
async def watching(
    kind: TierKind[StubT],
    addresses: Sequence[str],
    refusal: Refusal = anything,
    options: WatchOptions | None = None,
) -> AsyncIterator[ReplicaSet[StubT]]:
    """The replicas of a tier, watched for as long as the context is open."""
    crew = _Crew(kind, addresses, ReplicaSet(kind.name, refusal=refusal), options or WatchOptions())
    await crew.look()
    resolving = keep_running(f"resolver of {kind.name} tiers", crew.keep_resolving)
    try:
        yield crew.replicas
    finally:
        resolving.cancel()
        await asyncio.wait((resolving,))
        await crew.follow({}, grace_s=0.0)
        await crew.close()


class _Crew(Generic[StubT]):
    """A watch for each replica that there is."""

    def __init__(
        self,
        kind: TierKind[StubT],
        addresses: Sequence[str],
        replicas: ReplicaSet[StubT],
        options: WatchOptions,
    ) -> None:
        self.replicas = replicas
        self._kind = kind
        self._names = NameResolver(addresses)
        self._options = options
        self._known: Mapping[str, str] = {}
        self._watches: dict[str, _Watch[StubT]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def keep_resolving(self) -> None:
        """Follows the records of names; returns at once where there are none."""
        if not self._names.has_names:
            return
        resolve_s = self._options.resolve_s
        soon_s = min(self._options.resolve_soon_s, resolve_s)
        while True:
            await asyncio.sleep(soon_s)
            if self.replicas.all and all(map(_serves, self.replicas.all)):
                await self.replicas.change(resolve_s - soon_s)
            await self.look()

    async def look(self) -> None:
        """Follows what names stand for at this moment."""
        await self.follow(await self._names.look(self._still_serves))

    def _still_serves(self, address: str) -> bool:
        watch = self._watches.get(address)
        return watch is not None and _serves(watch.replica)

    async def follow(self, known: Mapping[str, str], grace_s: float | None = None) -> None:
        """Watches these replicas, each with the address that stands for it, and no others."""
        # Not from what was known: the last time may have broken off half-way.
        for address in self._watches.keys() - known.keys():
            watch = self._watches.pop(address)
            self.replicas.remove(watch.replica)
            leaving = start(
                f"farewell to {address}",
                watch.stop(self._options.leaving_grace_s if grace_s is None else grace_s),
            )
            self._leaving.add(leaving)
            leaving.add_done_callback(self._leaving.discard)
        for address in sorted(known.keys() - self._watches.keys()):
            name = server_name(address, known[address])
            self._watches[address] = _Watch(self._kind, address, self.replicas, self._options, name)
        if known.keys() != self._known.keys():
            _log.info("replicas", tier=self._kind.name, addresses=sorted(known))
            self.replicas.notify()
        self._known = known

    async def close(self) -> None:
        """Cuts off also those that were given a grace."""
        self._names.close()
        for _ in range(2):
            leaving = tuple(self._leaving)
            if leaving:
                await asyncio.wait(leaving, timeout=1.0)
            for task in leaving:
                task.cancel()


def _serves(replica: Replica[StubT]) -> bool:
    return replica.standing is Standing.SERVING


class _Watch(Generic[StubT]):
    """What is known of one replica, kept up to date by two tasks."""

    def __init__(
        self,
        kind: TierKind[StubT],
        address: str,
        replicas: ReplicaSet[StubT],
        options: WatchOptions,
        server_name: str,
    ) -> None:
        self._channel = open_channel(address, options.keep_alive, options.credentials, server_name)
        stub = kind.make_stub(counted(self._channel, replicas.traffic))
        self.replica = Replica(address, stub, Breaker(SILENCE), server_name=server_name)
        self._kind = kind
        self._replicas = replicas
        self._options = options
        self._is_open = False  # health says SERVING
        self._pause_s = options.first_pause_s
        replicas.add(self.replica)
        self._tasks = (
            keep_running(f"health watch of {address}", self._follow_health),
            keep_running(f"poll of {address}", self._keep_asking),
        )

    async def stop(self, grace_s: float) -> None:
        """Ends the watch now, and the connection when its calls have ended or grace is over."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._channel.close(grace_s)

    async def _follow_health(self) -> None:
        health = health_pb2_grpc.HealthStub(self._channel)
        while True:
            try:
                async for answer in health.Watch(health_pb2.HealthCheckRequest()):
                    self._hear(is_open=answer.status == _SERVING)
                why = "the health check ended"
            except grpc.aio.AioRpcError as error:
                why = error_from_rpc(error).message
            else:
                if self.replica.standing is Standing.CLOSED:
                    why = ""  # it drains: its sessions go on, and leave in their own time
            self._is_open = False
            if why and not self.replica.is_leaving:
                self._replicas.stands(self.replica, Standing.LOST, why)
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, self._options.max_pause_s)

    def _hear(self, *, is_open: bool) -> None:
        self._is_open = is_open
        if is_open:
            self._pause_s = self._options.first_pause_s
            # It may have been started again with another model: sessions wait for its name.
            self.replica.look.set()
        else:
            self._replicas.stands(self.replica, Standing.CLOSED, "it loads or drains")

    async def _keep_asking(self) -> None:
        replica, options = self.replica, self._options
        while True:
            replica.look.clear()
            if self._is_open and replica.breaker.admits():
                await self._look()
            pause_s = options.poll_s
            if replica.breaker.state is BreakerState.OPEN:
                pause_s = max(replica.breaker.pause_left_s, 0.01)
            try:
                async with asyncio.timeout(pause_s):
                    await replica.look.wait()
            except TimeoutError:
                pass

    async def _look(self) -> None:
        """One question. Whoever cannot answer it has failed once more."""
        replica = self.replica
        try:
            model, load = await self._kind.ask(replica.stub, self._options.poll_timeout_s)
        except grpc.aio.AioRpcError as rpc_error:
            self._take_failure(error_from_rpc(rpc_error))
        except ForethoughtError as error:
            self._take_failure(error)
        except asyncio.CancelledError:
            replica.breaker.given_up()
            raise
        else:
            self._replicas.answered(replica, load)
            if self._is_open:
                self._replicas.serves(replica, model)

    def _take_failure(self, error: ForethoughtError) -> None:
        replica = self.replica
        if error.code == "UNIMPLEMENTED":
            replica.breaker.succeeded()
            self._replicas.stands(
                replica, Standing.REFUSED, f"there is no {self._replicas.tier} tier"
            )
            return
        self._replicas.failed(replica, error.message)
