"""Scenarios that judge a policy: what it is worth against plain decoding and the best fixed K."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any

from forethought.tier import PassCost
from orchestrator.loop.decode_loop import SpeculationPolicy
from orchestrator.loop.session import Session
from orchestrator.policy.choice import AdaptivePolicy, FixedPolicy
from tests.orchestrator.simulator import (
    MAX_K,
    World,
    experience_of,
    measured,
    new_session,
    play,
    serve,
)


@dataclass(frozen=True)
class Machine:
    """Where a deployment runs."""

    pass_s: Callable[[int], float]  # of the target, by tokens
    draft_step_s: Callable[[int], float]  # by sessions


def stairs(num_tokens: int) -> float:
    """An int4 kernel of two CPU cores, which takes four tokens at a time."""
    return 0.004 + 0.0055 * -(-num_tokens // 4)


MACHINES = {
    # A GPU waits for memory up to some hundred tokens, and for arithmetic from then on.
    "gpu": Machine(lambda n: max(0.02, 0.0002 * n), lambda n: max(0.003, 0.00001 * n)),
    "cpu": Machine(stairs, lambda n: stairs(n) / 4),
    "bfloat16 on a cpu, int4 draft": Machine(lambda n: 0.016 + 0.001 * n, stairs),
    "lookup": Machine(stairs, lambda _: 0.0001),
}
_DRIFTING = Machine(lambda n: 0.01445 + 0.00055 * n, lambda n: 0.00056 + 0.00014 * n)


@dataclass(frozen=True)
class Phase:
    """A time in which the world is as it is."""

    num_rounds: int = 0  # of each session; 0 where requests are served
    num_requests: int = 0  # of 48 tokens
    num_sessions: int = 0  # at once; 0: as many as the scenario says
    world: Mapping[str, Any] = field(default_factory=dict)  # what changes in it
    counts: bool = True


@dataclass(frozen=True)
class Scenario:
    """A deployment, and what happens to it."""

    machine: Machine
    phases: Sequence[Phase]
    num_sessions: int = 1
    world: Mapping[str, Any] = field(default_factory=dict)
    target_error: Callable[[int], float] = lambda _: 1.0  # of the measured costs, by tokens
    draft_error: float = 1.0
    drafts_are_free: bool = False
    drifts: bool = False
    fixed_ks: Sequence[int] = range(MAX_K + 1)

    def tokens_per_s(self, k: int | None, seed: int = 0) -> float:
        """With the K; None: with the adaptive policy."""
        facts = {"acceptance": 0.0, "noise": 0.05, "dice": Random(seed), **self.world}
        pass_s = drifting(self.machine.pass_s, seed) if self.drifts else self.machine.pass_s
        world = World(pass_s, self.machine.draft_step_s, **facts)
        new_policy = self._new_policy(world, k)
        sessions = [new_session(index) for index in range(self.num_sessions)]
        is_steady = any(phase.num_rounds for phase in self.phases)
        policies = [new_policy(session) for session in sessions] if is_steady else []
        runs = []
        for phase in self.phases:
            for name, value in phase.world.items():
                setattr(world, name, value)
            if phase.num_rounds:
                run = play(world, policies, phase.num_rounds)
            else:
                num_sessions = phase.num_sessions or self.num_sessions
                run = serve(world, new_policy, num_sessions, phase.num_requests)
            if phase.counts:
                runs.append(run)
        return sum(run.num_tokens for run in runs) / sum(run.seconds for run in runs)

    def _new_policy(self, world: World, k: int | None) -> Callable[[Session], SpeculationPolicy]:
        if k is not None:
            return lambda _: FixedPolicy(k)
        target_costs = scaled(measured(self.machine.pass_s), self.target_error)
        draft_costs = scaled(measured(world.draft_step_s), lambda _: self.draft_error)
        experience = experience_of(
            world,
            target_costs,
            () if self.drafts_are_free else draft_costs,
            drafts_are_free=self.drafts_are_free,
        )
        return partial(AdaptivePolicy, experience)

    def fixed(self, seed: int) -> dict[int, float]:
        return {k: self.tokens_per_s(k, seed) for k in self.fixed_ks}


def scaled(costs: Sequence[PassCost], error: Callable[[int], float]) -> tuple[PassCost, ...]:
    return tuple(
        PassCost(cost.num_tokens, round(cost.forward_ns * error(cost.num_tokens))) for cost in costs
    )


def drifting(pass_s: Callable[[int], float], seed: int) -> Callable[[int], float]:
    """The same on a machine that others use too: what passes take wanders by a seventh."""
    slowness, dice = 0.0, Random(seed)

    def drifting_pass_s(num_tokens: int) -> float:
        nonlocal slowness
        slowness = 0.99 * slowness + dice.gauss(0, 0.02)
        if dice.random() < 0.002:
            slowness += dice.choice((-0.2, 0.2))
        return pass_s(num_tokens) * math.exp(slowness)

    return drifting_pass_s


def steady(num_sessions: int, warm_up: int = 100) -> list[Phase]:
    num_rounds = {1: 900, 4: 400}.get(num_sessions, 160)
    return [Phase(warm_up, counts=False), Phase(num_rounds)]


def scenarios() -> dict[str, Scenario]:
    """By name."""
    return _on_machines() | _measured_wrong() | _that_change() | _with_free_drafts() | _others()


def _on_machines() -> dict[str, Scenario]:
    found = {
        f"steady, {name}, {n} sessions, acceptance {acceptance}": Scenario(
            machine, steady(n), n, {"acceptance": acceptance}
        )
        for name, machine in MACHINES.items()
        for n in (1, 4, 16)
        for acceptance in (0.0, 0.5, 0.9)
    }
    for name, machine in MACHINES.items():
        for contention in (0.0, 1.0):
            found[f"bursts, {name}, contention {contention}"] = Scenario(
                machine,
                [Phase(num_requests=max(n, 6), num_sessions=n) for n in (1, 4, 16) * 3],
                world={"acceptance": 0.9, "contention": contention},
                fixed_ks=(0,),
            )
        found[f"short requests, {name}"] = Scenario(
            machine,
            [Phase(num_requests=6, counts=False), Phase(num_requests=40)],
            world={"acceptance": 0.9},
        )
        found[f"a draft tier that is 20 times slower, {name}"] = Scenario(
            machine,
            [
                Phase(1, counts=False),
                Phase(400, world={"draft_step_s": _slowed(machine.draft_step_s)}),
            ],
            4,
            {"acceptance": 0.9},
            fixed_ks=(0,),
        )
    return found


def _slowed(step_s: Callable[[int], float]) -> Callable[[int], float]:
    return lambda num_sessions: 0.05 + 20 * step_s(num_sessions)


def _measured_wrong() -> dict[str, Scenario]:
    gpu, cpu = MACHINES["gpu"], MACHINES["cpu"]
    steady_ones = [Phase(60, counts=False), Phase(300)]
    found = {
        "every third size measured right, the others 4 times too long": Scenario(
            cpu,
            steady(1, 600),
            world={"acceptance": 0.8},
            target_error=lambda num_tokens: 4.0 if num_tokens % 3 else 1.0,
        )
    }
    for factor in (100.0, 0.01):
        for n in (1, 4):
            good, useless = {"acceptance": 0.9}, {"acceptance": 0.0}
            name = f"measured {factor} times as long, {n} sessions"
            found[f"verification {name}"] = Scenario(
                gpu,
                steady_ones,
                n,
                good,
                target_error=partial(_error_of_verification, factor),
            )
            found[f"drafts {name}"] = Scenario(gpu, steady_ones, n, good, draft_error=factor)
            found[f"useless drafts {name}"] = Scenario(
                gpu, steady_ones, n, useless, draft_error=factor
            )
    return found


def _error_of_verification(factor: float, num_tokens: int) -> float:
    return factor if num_tokens > 1 else 1.0


def _that_change() -> dict[str, Scenario]:
    gpu, cpu = MACHINES["gpu"], MACHINES["cpu"]
    found = {
        f"{useful} texts that change, on a machine that drifts": Scenario(
            _DRIFTING,
            [
                Phase(num_requests=2, world={"acceptance": acceptances[turn % len(acceptances)]})
                for turn in range(60)
            ],
            world={"noise": 0.1, "overhead_s": 0.0015},
            drifts=True,
            fixed_ks=(0, 1, 2, 3),
        )
        for useful, acceptances in (("good", (0.4, 0.47, 0.36, 0.3)), ("useless", (0.02,)))
    }
    for n in (1, 4):
        found[f"drafts that begin to slow the target down, {n} sessions"] = Scenario(
            Machine(lambda n: 0.0145 + 0.00055 * n, lambda _: 0.0007),
            [
                Phase(400, counts=False),
                Phase(100, world={"contention": 1.0}, counts=False),
                Phase(500),
            ],
            n,
            {"acceptance": 0.5},
        )
    found["a good draft becomes useless"] = Scenario(
        cpu,
        [Phase(300, counts=False), Phase(1000, world={"acceptance": 0.0})],
        world={"acceptance": 0.95},
        fixed_ks=(0,),
    )
    found["a useless draft becomes good"] = Scenario(
        gpu, [Phase(300, counts=False), Phase(1500, world={"acceptance": 0.9})]
    )
    found["a draft tier that stops for a while"] = Scenario(
        Machine(lambda _: 0.05, lambda _: 0.0005),
        [
            Phase(200, counts=False),
            Phase(24, world={"draft_step_s": lambda _: 10.0}, counts=False),
            Phase(400, world={"draft_step_s": lambda _: 0.0005}),
        ],
        world={"acceptance": 0.9},
    )
    found["a draft tier that is slow for a while"] = Scenario(
        cpu,
        [
            Phase(300, counts=False),
            Phase(60, world={"draft_step_s": lambda _: 0.1}, counts=False),
            Phase(4000, world={"draft_step_s": cpu.draft_step_s}),
        ],
        world={"acceptance": 0.9},
        fixed_ks=(0, 2, 3, 4),
    )
    found["no draft tier"] = Scenario(
        cpu, [Phase(400)], 2, {"acceptance": 0.9, "has_drafts": False}, fixed_ks=(0,)
    )
    return found


def _with_free_drafts() -> dict[str, Scenario]:
    found = {
        f"free drafts, {n} sessions, acceptance {acceptance}": Scenario(
            Machine(stairs, lambda _: 0.0),
            steady(n, 60),
            n,
            {"acceptance": acceptance, "offered": 0.5},
            drafts_are_free=True,
        )
        for n in (1, 4, 16)
        for acceptance in (0.0, 0.3, 0.9)
    }
    for n in (1, 4):
        for acceptance in (0.1, 0.3):
            found[f"free drafts with a hidden cost, {n} sessions, acceptance {acceptance}"] = (
                Scenario(
                    Machine(lambda n: 0.014 + 0.0003 * n, lambda _: 0.0),
                    steady(n, 60),
                    n,
                    {"acceptance": acceptance, "offered": 0.5, "contention": 0.2},
                    drafts_are_free=True,
                )
            )
    found["free drafts become good"] = Scenario(
        Machine(stairs, lambda _: 0.0),
        [Phase(300, counts=False), Phase(1500, world={"acceptance": 0.9})],
        drafts_are_free=True,
    )
    found["free drafts whose tokens cost beside the pass"] = Scenario(
        Machine(lambda _: 0.004, lambda _: 0.0),
        steady(1, 200),
        world={"acceptance": 0.6, "token_overhead_s": 0.002},
        drafts_are_free=True,
    )
    return found


def _others() -> dict[str, Scenario]:
    found: dict[str, Scenario] = {}
    for n in (1, 4):
        for acceptance in (0.3, 0.6, 0.8):
            name = f"rows that cost as much as a pass of the draft, {n}, acceptance {acceptance}"
            found[name] = Scenario(
                Machine(lambda n: 0.015 + 0.0005 * n, lambda _: 0.002),
                steady(n),
                n,
                {"acceptance": acceptance, "token_overhead_s": 0.002},
            )
        found[f"a draft of half the size that differs by request, {n} sessions"] = Scenario(
            Machine(lambda n: 0.02 + 0.001 * n, lambda n: 0.009 + 0.001 * n),
            [Phase(num_requests=10, counts=False), Phase(num_requests=40 * n)],
            n,
            {"acceptances": (0.9, 0.3, 0.75, 0.05, 0.6, 0.95, 0.45)},
        )
        found[f"a machine that stalls now and then, {n} sessions"] = Scenario(
            Machine(lambda n: 0.0145 + 0.00055 * n, lambda _: 0.0007),
            [Phase(200, counts=False), Phase(8000 // n)],
            n,
            {"acceptance": 0.6, "stalls": 0.005},
        )
    found["texts that differ, 4 sessions"] = Scenario(
        Machine(lambda n: 0.01 + 0.001 * n, lambda _: 0.001),
        steady(4),
        4,
        {"acceptances": (0.9, 0.9, 0.9, 0.0)},
    )
    return found
