"""A deployment of many replicas in simulated time, scaled by the real decisions.

Targets run the passes of `tests/orchestrator/simulator.py`, each for its own sessions. All sessions
choose by one policy, as those of an orchestrator do. The replicas of the draft tier share its work:
the busier they are, the longer a draft takes. Pods take a while to start.
"""

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from autoscaler.answers import Answers, TierAnswer
from autoscaler.decider import Decider, Tier
from autoscaler.needs import Goals
from autoscaler.steady import Limits
from forethought.tier import EngineWork, OrchestratorLoad, TierLoad
from orchestrator.loop.round import Round
from orchestrator.loop.session import Session
from orchestrator.policy.choice import AdaptivePolicy, Experience
from orchestrator.policy.demand import DemandMeter
from orchestrator.policy.governor import Governor
from tests.orchestrator.simulator import (
    MAX_K,
    Run,
    Seat,
    World,
    measured,
    new_session,
    take_turn,
)

_NS = 1e9
_MAX_USAGE = 0.95  # of the draft tier, by which a draft takes twenty times as long


@dataclass(frozen=True)
class Scenario:
    """What a deployment has to do, and what it does it with."""

    seconds: float
    arrivals_per_s: Callable[[float], float]  # of requests, at a time
    acceptance: Callable[[float], float]  # of drafts, at a time
    num_output_tokens: int = 80
    num_prompt_tokens: int = 400
    sessions_a_target: int = 12  # for which its blocks do
    pass_s: Callable[[int], float] = lambda n: max(0.25, 0.25 * n / 96)
    draft_step_s: Callable[[int], float] = lambda n: 0.02 + 0.001 * n
    start_s: float = 60.0  # of a pod
    down_after_s: float = 300.0
    remembered_s: float = 3600.0
    interval_s: float = 5.0
    limits: Limits = field(default_factory=lambda: Limits(1, 10))
    draft_limits: Limits = field(default_factory=lambda: Limits(0, 10))


@dataclass(frozen=True)
class Moment:
    """How it is at a time."""

    now_s: float
    num_sessions: int  # running, and waiting for a target
    num_waiting: int
    acceptance: float
    targets: int  # serving
    drafts: int
    targets_wanted: int
    drafts_wanted: int
    mean_k: float
    tokens_per_s: float  # of a session that runs


class _Metered(AdaptivePolicy):
    """Tells the meter too, as a generation does."""

    def __init__(self, experience: Experience, session: Session) -> None:
        super().__init__(experience, session)
        self._meter = experience.demand
        self._meter.begin()

    def learn(self, judged: Round) -> None:
        super().learn(judged)
        self._meter.observe(judged)

    def close(self) -> None:
        super().close()
        self._meter.end()


@dataclass
class _Target:
    """A replica, with a time of its own that runs from pass to pass."""

    run: Run
    began_s: float
    seats: list[Seat] = field(default_factory=list)


class _Pods:
    """The replicas of a tier: those that serve, and those that start."""

    def __init__(self, num_serving: int, start_s: float) -> None:
        self.num_serving = num_serving
        self._start_s = start_s
        self._starting: deque[float] = deque()

    def scale(self, now_s: float, wanted: int) -> None:
        while self._starting and self.num_serving + len(self._starting) > wanted:
            self._starting.pop()
        self.num_serving = min(self.num_serving, wanted)
        while self.num_serving + len(self._starting) < wanted:
            self._starting.append(now_s + self._start_s)

    def pass_time(self, now_s: float) -> None:
        while self._starting and self._starting[0] <= now_s:
            self._starting.popleft()
            self.num_serving += 1


class Simulation:
    """One run of a scenario; with another seed other requests and other luck."""

    def __init__(self, scenario: Scenario, seed: int = 7) -> None:
        self._scenario = scenario
        self._now_s = 0.0
        self._dice = random.Random(seed)
        self._world = World(
            scenario.pass_s, self._loaded_step_s, acceptance=0.0, dice=random.Random(seed + 1)
        )
        costs = measured(scenario.pass_s), measured(scenario.draft_step_s)
        self._experience = Experience(Governor(MAX_K, *costs))
        self._experience.demand = DemandMeter(
            self._experience.governor,
            clock=lambda: self._now_s,
            remembered_s=scenario.remembered_s,
        )
        self._waiting: deque[Seat] = deque()
        self._targets = [_Target(Run(), 0.0)]
        self._pods = {
            Tier.TARGET: _Pods(1, scenario.start_s),
            Tier.DRAFT: _Pods(1, scenario.start_s),
        }
        self._draft_busy_s = 0.0
        self._draft_usage = 0.0  # of late
        self._num_requests = 0
        self._num_tokens_before = 0  # of targets that are gone
        self._next_arrival_s = 0.0
        limits = {
            Tier.TARGET: scenario.limits,
            Tier.DRAFT: scenario.draft_limits,
            Tier.ORCHESTRATOR: Limits(1, 1),
        }
        self._decider = Decider(Goals(), limits, 15.0, scenario.down_after_s)
        self._wanted = {Tier.TARGET: 1, Tier.DRAFT: 1}

    def play(self) -> list[Moment]:
        """A moment for every look of the autoscaler."""
        moments = []
        while self._now_s < self._scenario.seconds:
            before_s, tokens, session_s = self._draft_busy_s, self._num_tokens(), 0.0
            for _ in range(5):
                self._now_s += self._scenario.interval_s / 5
                self._world.acceptance = self._scenario.acceptance(self._now_s)
                self._arrive()
                self._work()
                session_s += len(self._running()) * self._scenario.interval_s / 5
            self._learn_usage(self._draft_busy_s - before_s)
            self._decide()
            moments.append(self._moment((self._num_tokens() - tokens) / max(session_s, 1e-9)))
        return moments

    def _arrive(self) -> None:
        while self._next_arrival_s <= self._now_s:
            rate = self._scenario.arrivals_per_s(self._next_arrival_s)
            self._next_arrival_s += self._dice.expovariate(max(rate, 1e-3))
            self._num_requests += 1
            session = replace(
                new_session(self._num_requests),
                max_len=1 + self._scenario.num_output_tokens,
                round=0,
            )
            prompt = self._scenario.num_prompt_tokens
            self._waiting.append(Seat(_Metered(self._experience, session), session, prompt, prompt))

    def _work(self) -> None:
        """Every target works until now, by itself."""
        for target in self._targets:
            self._take_in(target)
            while target.began_s + target.run.seconds < self._now_s:
                if not target.seats:
                    target.run.seconds = self._now_s - target.began_s
                    break
                self._turn(target)
                for seat in [each for each in target.seats if each.session.room <= 0]:
                    seat.policy.close()
                    target.seats.remove(seat)
                self._take_in(target)

    def _turn(self, target: _Target) -> None:
        self._world.has_drafts = self._pods[Tier.DRAFT].num_serving > 0
        num_before = len(target.run.ks)
        take_turn(self._world, target.seats, target.run)
        ks = [k for k in target.run.ks[num_before:] if k]
        if ks and self._world.has_drafts:
            self._draft_busy_s += max(ks) * self._scenario.draft_step_s(len(ks))

    def _take_in(self, target: _Target) -> None:
        while self._waiting and len(target.seats) < self._scenario.sessions_a_target:
            fullest = min(self._targets, key=lambda each: len(each.seats))
            fullest.seats.append(self._waiting.popleft())

    def _loaded_step_s(self, num_sessions: int) -> float:
        """A step of a draft beside the work of others."""
        return self._scenario.draft_step_s(num_sessions) / (1 - min(self._draft_usage, _MAX_USAGE))

    def _learn_usage(self, busy_s: float) -> None:
        drafts = max(self._pods[Tier.DRAFT].num_serving, 1)
        usage = busy_s / self._scenario.interval_s / drafts
        # What one target's sessions ask for by turns is in nobody's way.
        others = usage * (1 - 1 / max(len(self._targets), 1))
        self._draft_usage += 0.5 * (others - self._draft_usage)

    def _decide(self) -> None:
        decisions = self._decider.decide(self._now_s, self._answers())
        for tier, pods in self._pods.items():
            if tier in decisions:
                self._wanted[tier] = decisions[tier].replicas
                pods.scale(self._now_s, decisions[tier].replicas)
            pods.pass_time(self._now_s)
        self._follow_pods()

    def _follow_pods(self) -> None:
        """Sessions of a target that goes move to the others between two rounds."""
        wanted = self._pods[Tier.TARGET].num_serving
        while len(self._targets) < wanted:
            self._targets.append(_Target(Run(), self._now_s))
        while len(self._targets) > wanted:
            gone = self._targets.pop()
            self._waiting.extendleft(gone.seats)
            self._num_tokens_before += gone.run.num_tokens
        self._experience.governor.times.num_targets = len(self._targets)

    def _answers(self) -> Answers:
        scenario = self._scenario
        waiting = len(self._waiting) / len(self._targets)
        targets = {}
        for index, target in enumerate(self._targets):
            num_running = len(target.seats)
            targets[f"target-{index}-{target.began_s}"] = TierAnswer(
                TierLoad(num_running + round(waiting), 0, 0),
                EngineWork(
                    uptime_ns=round((self._now_s - target.began_s) * _NS),
                    busy_ns=round(min(target.run.pass_s, self._now_s - target.began_s) * _NS),
                    num_computed_tokens=target.run.num_tokens,
                    num_waiting_tokens=round(waiting * scenario.num_prompt_tokens),
                    num_waiting_sessions=round(waiting),
                    num_held_blocks=num_running,
                    num_blocks=scenario.sessions_a_target,
                    block_len=scenario.num_prompt_tokens,
                ),
                measured(scenario.pass_s),
            )
        num_drafts = self._pods[Tier.DRAFT].num_serving
        busy_ns = round(self._draft_busy_s / max(num_drafts, 1) * _NS)
        draft = TierAnswer(
            TierLoad(0, 0, 0), EngineWork(uptime_ns=round(self._now_s * _NS), busy_ns=busy_ns)
        )
        meter = self._experience.demand
        load = OrchestratorLoad(
            round(self._now_s * _NS), 0, 256, meter.num_rounds, meter.num_draft_tokens, meter.demand
        )
        # Of each tier's work all replicas do the same, so that their number is part of the name.
        drafts = {f"draft-{index} of {num_drafts}": draft for index in range(num_drafts)}
        return Answers(targets, drafts, {"orchestrator": load})

    def _running(self) -> list[Seat]:
        return [seat for target in self._targets for seat in target.seats]

    def _num_tokens(self) -> int:
        now = sum(target.run.num_tokens for target in self._targets)
        return self._num_tokens_before + now

    def _take_ks(self) -> list[int]:
        """Of the rounds since the last look."""
        taken = [k for target in self._targets for k in target.run.ks]
        for target in self._targets:
            target.run.ks.clear()
        return taken

    def _moment(self, tokens_per_s: float) -> Moment:
        last = self._take_ks()
        return Moment(
            self._now_s,
            len(self._running()) + len(self._waiting),
            len(self._waiting),
            self._world.acceptance,
            len(self._targets),
            self._pods[Tier.DRAFT].num_serving,
            self._wanted[Tier.TARGET],
            self._wanted[Tier.DRAFT],
            sum(last) / len(last) if last else math.nan,
            tokens_per_s,
        )


def diurnal(day_s: float, least: float, most: float) -> Callable[[float], float]:
    """A rate that is least at the beginning and the end of a day."""
    return lambda now_s: least + (most - least) * (1 - math.cos(2 * math.pi * now_s / day_s)) / 2
