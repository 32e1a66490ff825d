"""Faults, one after the other, drawn from a seed.

A storm breaks one process at a time and mends it again while the next one breaks. It spares

- the last of a tier that serves: what no replica is left of, nothing can survive without waiting,
  and how long that is waited for other tests say (`tests/lifecycle/test_lost_target.py`);
- orchestrators while the store is broken, and the store while one of them is: a session is in both,
  and lives on as long as one of the two does. They take turns.
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.deployment import ChaosDeployment, Store, is_serving
from tests.lifecycle.processes import TierProcess
from tests.store.proxy import Network
from tests.store.servers import ValkeyServer

Fault = Callable[[Any, random.Random], Awaitable[None]]
"""Breaks a process, and mends it."""

SETTLE_S = 8.0
"""From the store's mending until sessions are stored again: a breaker's longest pause, and more."""


async def kill(process: TierProcess, rng: random.Random) -> None:
    """SIGKILL, and a new one at the same address a moment later."""
    pause_s = rng.uniform(0, 1)
    process.kill()
    await asyncio.sleep(pause_s)
    process.start()


async def pause(process: TierProcess | ValkeyServer, rng: random.Random) -> None:
    """SIGSTOP, which leaves all connections up, and SIGCONT some seconds later."""
    pause_s = rng.choice((0.5, 2.0, 8.0))
    process.signal(signal.SIGSTOP)
    await asyncio.sleep(pause_s)
    process.signal(signal.SIGCONT)


async def restart(process: TierProcess, _: random.Random) -> None:
    """SIGTERM, on which it drains, and a new one at the same address."""
    process.signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait)
    process.start()


async def flush(store: ValkeyServer, _: random.Random) -> None:
    """All that is stored is gone."""
    with store.client() as client:
        await asyncio.to_thread(client.flushall)


async def fill(store: ValkeyServer, _: random.Random) -> None:
    """For some seconds there is room for nothing more."""
    with store.client() as client:
        await asyncio.to_thread(client.config_set, "maxmemory", 1)
        await asyncio.sleep(3.0)
        await asyncio.to_thread(client.config_set, "maxmemory", 0)


async def stop(store: ValkeyServer, _: random.Random) -> None:
    """SIGKILL, and an empty one at the same address some seconds later."""
    await asyncio.to_thread(store.kill)
    await asyncio.sleep(3.0)
    await asyncio.to_thread(store.start)


SLOW = (Network(latency_s=0.2), Network(latency_s=1.0), Network(bytes_per_s=2000))
"""Within the time limit of a call, beyond it, and too narrow for what there is to store."""


async def slow(store: Store, rng: random.Random) -> None:
    """For some seconds its answers travel slowly."""
    worse, better = rng.choice(SLOW), Network()
    store.network.latency_s, store.network.bytes_per_s = worse.latency_s, worse.bytes_per_s
    await asyncio.sleep(4.0)
    store.network.latency_s, store.network.bytes_per_s = better.latency_s, better.bytes_per_s


PROCESS_FAULTS: Mapping[str, Fault] = {"kill": kill, "pause": pause, "restart": restart}
STORE_FAULTS: Mapping[str, Fault] = {
    "flush": flush,
    "fill": fill,
    "pause": pause,
    "slow": slow,
    "stop": stop,
}
FAULTS: Mapping[str, Mapping[str, Fault]] = {
    "target": PROCESS_FAULTS,
    "draft": PROCESS_FAULTS,
    "orchestrator": PROCESS_FAULTS,
    "store": STORE_FAULTS,
}


@dataclass
class Storm:
    """What it breaks is a function of the seed, and of who is up at that moment."""

    deployment: ChaosDeployment
    seed: int
    interval_s: float = 2.0
    """Between two faults."""
    injected: Counter[str] = field(default_factory=Counter)
    _broken: dict[str, list[Any]] = field(default_factory=lambda: {tier: [] for tier in FAULTS})
    _store_mended_at: float = 0.0
    _is_orchestrators_turn: bool = False  # before the store's
    _mending: set[asyncio.Task[None]] = field(default_factory=set)

    async def rage(self, duration_s: float) -> None:
        """Breaks something in every interval, then waits until all is mended."""
        rng = random.Random(self.seed)
        loop = asyncio.get_running_loop()
        end = loop.time() + duration_s
        while loop.time() < end:
            await self._break_one(rng)
            await asyncio.sleep(min(self.interval_s, max(end - loop.time(), 0)))
        if self._mending:
            await asyncio.gather(*self._mending)
        await self.deployment.until_serving()

    async def _break_one(self, rng: random.Random) -> None:
        tiers = list(FAULTS)
        rng.shuffle(tiers)
        for tier in tiers:
            victims = await self._victims(tier)
            if victims:
                name = rng.choice(sorted(FAULTS[tier]))
                self._start(tier, name, rng.choice(victims), random.Random(rng.random()))
                return

    async def _victims(self, tier: str) -> list[Any]:
        """Which processes of a tier may break now."""
        store = self.deployment.store
        if tier == "store":
            is_spared = store is None or self._broken["orchestrator"] or self._is_orchestrators_turn
            return [] if is_spared or not await self._all_serve("orchestrator") else [store]
        if tier == "orchestrator":
            since_s = asyncio.get_running_loop().time() - self._store_mended_at
            if store is None or self._broken["store"] or since_s < SETTLE_S:
                # Without a store a session ends with its orchestrator.
                return []
        up = [each for each in self.deployment.tiers[tier] if each not in self._broken[tier]]
        up = [each for each in up if await is_serving(each)]
        return up if len(up) > 1 else []

    async def _all_serve(self, tier: str) -> bool:
        return all([await is_serving(each) for each in self.deployment.tiers[tier]])

    def _start(self, tier: str, name: str, victim: Any, rng: random.Random) -> None:
        self.injected[f"{name} {tier}"] += 1
        self._broken[tier].append(victim)
        if tier in {"store", "orchestrator"}:
            self._is_orchestrators_turn = tier == "store"

        async def break_and_mend() -> None:
            await FAULTS[tier][name](victim, rng)
            self._broken[tier].remove(victim)
            if tier == "store":
                self._store_mended_at = asyncio.get_running_loop().time()

        mending = asyncio.create_task(break_and_mend())
        self._mending.add(mending)
        mending.add_done_callback(self._mending.discard)
