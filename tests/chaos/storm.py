"""Faults, one after the other, drawn from a seed.

A storm breaks one process at a time and mends it again while the next one breaks. It never takes
the last of a tier that serves: what no replica is left of, nothing can survive without waiting,
and how long that is waited for other tests say (`tests/lifecycle/test_lost_target.py`).
"""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.chaos.deployment import ChaosDeployment, is_serving
from tests.lifecycle.processes import TierProcess

Fault = Callable[[TierProcess, random.Random], Awaitable[None]]
"""Breaks a process, and mends it."""


async def kill(process: TierProcess, rng: random.Random) -> None:
    """SIGKILL, and a new one at the same address a moment later."""
    pause_s = rng.uniform(0, 1)
    process.kill()
    await asyncio.sleep(pause_s)
    process.start()


async def pause(process: TierProcess, rng: random.Random) -> None:
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


FAULTS: dict[str, Fault] = {"kill": kill, "pause": pause, "restart": restart}


@dataclass
class Storm:
    """What it breaks is a function of the seed, and of who is up at that moment."""

    deployment: ChaosDeployment
    seed: int
    interval_s: float = 2.0
    """Between two faults."""
    injected: Counter[str] = field(default_factory=Counter)
    _broken: set[TierProcess] = field(default_factory=set)
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
        tiers = self.deployment.tiers
        wishes = [
            (tier, name) for tier, members in tiers.items() if len(members) > 1 for name in FAULTS
        ]
        rng.shuffle(wishes)
        for tier, name in wishes:
            up = [each for each in tiers[tier] if each not in self._broken]
            up = [each for each in up if await is_serving(each)]
            if len(up) > 1:
                self._start(tier, name, rng.choice(up), random.Random(rng.random()))
                return

    def _start(self, tier: str, name: str, victim: TierProcess, rng: random.Random) -> None:
        self.injected[f"{name} {tier}"] += 1
        self._broken.add(victim)

        async def break_and_mend() -> None:
            await FAULTS[name](victim, rng)
            self._broken.discard(victim)

        mending = asyncio.create_task(break_and_mend())
        self._mending.add(mending)
        mending.add_done_callback(self._mending.discard)
