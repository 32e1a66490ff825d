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
from forethought.tier import EvidenceRound, PassCost, RoundTimings
from orchestrator.loop.decode_loop import SpeculationPolicy
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session
from orchestrator.policy.choice import AdaptivePolicy, Experience, FixedPolicy
from orchestrator.policy.governor import Governor

MAX_K = 8
REQUEST_LEN, PROMPT_LEN = 48, 40
TOKEN = OutputToken(9, TokenOrigin.BONUS, None, 1.0)


@dataclass
class World:
    """What is true, and the sessions do not know."""

    pass_s: Callable[[int], float]  # of the target, by tokens
    draft_step_s: Callable[[int], float]  # for a token of each session, by sessions
    acceptance: float  # of each drafted token
    acceptances: Sequence[float] = ()  # the same where sessions differ; they take turns
    offered: float = 1.0  # how often there is a draft
    noise: float = 0.1  # standard deviation of the logarithm of times
    overhead_s: float = 0.001
    token_overhead_s: float = 0.0  # more of it for each drafted token
    has_drafts: bool = True  # whether there is any replica of the draft tier
    contention: float = 0.0  # how much longer a pass takes beside drafts, on a processor they share
    stalls: float = 0.0  # how often everything stands still during a pass
    stall_s: float = 0.3
    dice: random.Random = field(default_factory=lambda: random.Random(1))

    def about(self, seconds: float) -> float:
        return seconds * self.dice.lognormvariate(0, self.noise)

    def draft_len(self, k: int) -> int:
        return k if self.dice.random() < self.offered else 0

    def acceptance_of(self, session: Session) -> float:
        if not self.acceptances:
            return self.acceptance
        return self.acceptances[int(session.session_id[1:]) % len(self.acceptances)]

    def num_accepted(self, num_drafted: int, session: Session) -> int:
        acceptance = self.acceptance_of(session)
        for place in range(num_drafted):
            if self.dice.random() >= acceptance:
                return place
        return num_drafted


@dataclass
class Run:
    """What came of some rounds."""

    seconds: float = 0.0
    num_tokens: int = 0
    ks: list[int] = field(default_factory=list)  # of all sessions and rounds
    pass_s: float = 0.0  # in passes of the target

    @property
    def rate(self) -> float:
        return self.num_tokens / self.seconds


def new_session(index: int = 0) -> Session:
    return Session(f"s{index}", (1,), 10**9, SamplingParams(), round=1)


def measured(pass_s: Callable[[int], float]) -> tuple[PassCost, ...]:
    sizes = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256)
    return tuple(PassCost(size, round(pass_s(size) * 1e9)) for size in sizes)


def experience_of(
    world: World,
    target_costs: Sequence[PassCost] | None = None,
    draft_costs: tuple[PassCost, ...] | None = None,
    *,
    drafts_are_free: bool = False,
) -> Experience:
    """Of a deployment that has just started; it has measured the truth unless told otherwise."""
    if target_costs is None:
        target_costs = measured(world.pass_s)
    if draft_costs is None:
        draft_costs = () if drafts_are_free else measured(world.draft_step_s)
    governor = Governor(MAX_K, target_costs, draft_costs, drafts_are_free=drafts_are_free)
    return Experience(governor)


@dataclass
class Seat:
    """A session and who chooses for it."""

    policy: SpeculationPolicy
    session: Session
    num_prompt_tokens: int = 0  # that both tiers still have to compute
    num_to_draft_first: int = 0  # that the draft tier still has to compute


def play(world: World, policies: Sequence[SpeculationPolicy], num_rounds: int) -> Run:
    """Some rounds of as many sessions as there are policies."""
    run = Run()
    seats = [Seat(policy, new_session(index)) for index, policy in enumerate(policies)]
    for _ in range(num_rounds):
        take_turn(world, seats, run)
    return run


def serve(
    world: World,
    new_policy: Callable[[Session], SpeculationPolicy],
    num_sessions: int,
    num_requests: int,
) -> Run:
    """Short requests, so many at a time, the next when one has ended."""
    run = Run()
    seats: list[Seat] = []
    while num_requests or seats:
        while num_requests and len(seats) < num_sessions:
            num_requests -= 1
            session = replace(new_session(num_requests), max_len=1 + REQUEST_LEN, round=0)
            seat = Seat(new_policy(session), session, PROMPT_LEN, PROMPT_LEN)
            seats.append(seat)
        take_turn(world, seats, run)
        for seat in [each for each in seats if each.session.room <= 0]:
            seat.policy.close()
            seats.remove(seat)
    return run


def take_turn(world: World, seats: Sequence[Seat], run: Run) -> None:
    """One pass that all sessions share."""
    asks = [seat.policy.ask(seat.session).within(seat.session.room) for seat in seats]
    wanted = [world.draft_len(ask.num_speculative_tokens) for ask in asks]
    num_drafting = sum(length > 0 for length in wanted)
    made_s = max(wanted) * world.about(world.draft_step_s(max(num_drafting, 1)))
    patience = math.inf if world.has_drafts else 0.0  # who is away is not waited for
    waited = [
        min(made_s, ask.timeout_s or math.inf, patience) if ask.num_speculative_tokens else 0.0
        for ask in asks
    ]
    are_late = [
        length > 0 and waited_s < made_s for length, waited_s in zip(wanted, waited, strict=True)
    ]
    lengths = [0 if late else length for length, late in zip(wanted, are_late, strict=True)]
    num_tokens = sum(lengths) + sum(max(seat.num_prompt_tokens, 1) for seat in seats)
    pass_s = world.about(world.pass_s(num_tokens))
    if num_drafting:
        pass_s *= 1 + world.contention
    if world.stalls and world.dice.random() < world.stalls:
        pass_s += world.stall_s
    if world.contention:
        pass_s += world.draft_step_s(
            sum(_drafts_prompt(*each) for each in zip(seats, asks, strict=True))
        )
    measured = measured_in(RoundTimings(0, round(pass_s * 1e9), 0, len(seats), num_tokens))
    draft_s = max(waited) if num_drafting else 0.0
    around_s = [world.overhead_s + length * world.token_overhead_s for length in lengths]
    run.seconds += draft_s + pass_s + max(around_s)
    run.pass_s += pass_s
    run.ks += [ask.num_speculative_tokens for ask in asks]
    for index, seat in enumerate(seats):
        drafted = Drafted(guesses(lengths[index]), has_failed=are_late[index])
        outcome = Outcome((TOKEN,) * (world.num_accepted(lengths[index], seat.session) + 1))
        waited_s = draft_s + 0.0004 if wanted[index] else 0.0004
        seat.policy.learn(
            Round(
                seat.session,
                asks[index],
                drafted,
                measured,
                outcome,
                speculation_ns=round(waited_s * 1e9),
                verification_ns=round((pass_s + around_s[index]) * 1e9),
                rejection_ns=0,
            )
        )
        seat.num_prompt_tokens = 0
        run.num_tokens += len(outcome.tokens)
        seat.session = seat.session.commit(outcome)


def _drafts_prompt(seat: Seat, ask: Ask) -> int:
    """Tokens of a prompt that the draft tier computes beside this pass."""
    wants = getattr(seat.policy, "expects_speculation", False) and not seat.session.round
    if not (wants or ask.num_speculative_tokens):
        return 0
    num_tokens, seat.num_to_draft_first = seat.num_to_draft_first, 0
    return num_tokens


def adaptive(experience: Experience, num_sessions: int) -> list[AdaptivePolicy]:
    return [AdaptivePolicy(experience, new_session(index)) for index in range(num_sessions)]


def fixed(k: int, num_sessions: int) -> list[SpeculationPolicy]:
    return [FixedPolicy(k)] * num_sessions


def guesses(length: int) -> Draft:
    return Draft(tuple(coupled_guess(1) for _ in range(length)))


def measured_in(timings: RoundTimings) -> EvidenceRound:
    return EvidenceRound(0, 0, Evidence(()), timings)


def failed_round(session: Session, timings: RoundTimings) -> Round:
    """A round that wanted a draft and got none."""
    nothing = Drafted(has_failed=True)
    outcome = Outcome((TOKEN,))
    return Round(session, Ask(4, 0.1), nothing, measured_in(timings), outcome, 0, 0, 0)
