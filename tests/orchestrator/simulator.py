"""A deployment in simulated time: sessions in step with each other, passes that take what they are
told to take, drafts that are accepted as often as they are told to be."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    Draft,
    Evidence,
    Outcome,
    OutputToken,
    TokenOrigin,
    coupled_guess,
)
from forethought.tier import PassCost, RoundTimings
from orchestrator.economy import Economy
from orchestrator.policy import AdaptivePolicy, Experience, FixedPolicy, SpeculationPolicy
from orchestrator.round import Ask, Round
from orchestrator.session import Session

MAX_K = 8
TOKEN = OutputToken(9, TokenOrigin.BONUS, None, 1.0)


@dataclass
class World:
    """What is true, and the sessions do not know."""

    pass_s: Callable[[int], float]  # of the target, by tokens
    draft_step_s: Callable[[int], float]  # for a token of each session, by sessions
    acceptance: float  # of each drafted token
    offered: float = 1.0  # how often there is a draft
    noise: float = 0.1  # standard deviation of the logarithm of times
    overhead_s: float = 0.001
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def about(self, seconds: float) -> float:
        return seconds * self.dice.lognormvariate(0, self.noise)

    def draft_len(self, k: int) -> int:
        return k if self.dice.random() < self.offered else 0

    def num_accepted(self, num_drafted: int) -> int:
        for place in range(num_drafted):
            if self.dice.random() >= self.acceptance:
                return place
        return num_drafted


@dataclass
class Run:
    """What came of some rounds."""

    seconds: float = 0.0
    num_tokens: int = 0
    ks: list[int] = field(default_factory=list)  # of all sessions and rounds

    @property
    def rate(self) -> float:
        return self.num_tokens / self.seconds


def new_session(index: int = 0) -> Session:
    return Session(f"s{index}", (1,), 10**9, SamplingParams(), round=1)


def measured(pass_s: Callable[[int], float]) -> tuple[PassCost, ...]:
    sizes = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
    return tuple(PassCost(size, round(pass_s(size) * 1e9)) for size in sizes)


def experience_of(world: World) -> Experience:
    """Of a deployment that has just started."""
    return Experience(Economy(MAX_K, measured(world.pass_s), measured(world.draft_step_s)))


def play(world: World, policies: Sequence[SpeculationPolicy], num_rounds: int) -> Run:
    """Some rounds of as many sessions as there are policies."""
    run = Run()
    sessions = [new_session(index) for index in range(len(policies))]
    for _ in range(num_rounds):
        asks = [policy.ask(each) for policy, each in zip(policies, sessions, strict=True)]
        wanted = [world.draft_len(ask.num_speculative_tokens) for ask in asks]
        num_drafting = sum(length > 0 for length in wanted)
        made_s = max(wanted) * world.about(world.draft_step_s(max(num_drafting, 1)))
        waited = [
            min(made_s, ask.timeout_s or math.inf) if ask.num_speculative_tokens else 0.0
            for ask in asks
        ]
        are_late = [
            length > 0 and waited_s < made_s
            for length, waited_s in zip(wanted, waited, strict=True)
        ]
        lengths = [0 if late else length for length, late in zip(wanted, are_late, strict=True)]
        num_tokens = sum(lengths) + len(lengths)
        pass_s = world.about(world.pass_s(num_tokens))
        timings = RoundTimings(0, round(pass_s * 1e9), 0, len(policies), num_tokens)
        draft_s = max(waited) if num_drafting else 0.0
        run.seconds += draft_s + pass_s + world.overhead_s
        run.ks += [ask.num_speculative_tokens for ask in asks]
        for index, policy in enumerate(policies):
            judged = _judged(world, sessions[index], asks[index], lengths[index])
            waited_s = draft_s + 0.0004 if wanted[index] else 0.0004
            policy.learn(
                replace(
                    judged,
                    speculation_ns=round(waited_s * 1e9),
                    verification_ns=round((pass_s + world.overhead_s) * 1e9),
                    target_timings=timings,
                    draft_failed=are_late[index],
                )
            )
            run.num_tokens += len(judged.outcome.tokens)
    return run


def adaptive(experience: Experience, num_sessions: int) -> list[AdaptivePolicy]:
    return [AdaptivePolicy(experience, new_session(index)) for index in range(num_sessions)]


def fixed(k: int, num_sessions: int) -> list[SpeculationPolicy]:
    return [FixedPolicy(k)] * num_sessions


def _judged(world: World, session: Session, ask: Ask, length: int) -> Round:
    draft = Draft(tuple(coupled_guess(1) for _ in range(length)))
    tokens = (TOKEN,) * (world.num_accepted(length) + 1)
    return Round(session, ask, draft, Evidence(()), Outcome(tokens), 0, 0, 0, RoundTimings())


def failed_round(session: Session, timings: RoundTimings) -> Round:
    """A round that wanted a draft and got none."""
    outcome = Outcome((TOKEN,))
    return Round(
        session, Ask(4, 0.1), Draft(), Evidence(()), outcome, 0, 0, 0, timings, draft_failed=True
    )
