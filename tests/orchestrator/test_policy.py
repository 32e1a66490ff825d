"""The adaptive policy in simulated deployments: what it chooses, and what that is worth."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest

from forethought.sampling.params import SamplingParams
from forethought.tier import RoundTimings
from orchestrator.policy import AdaptivePolicy, SpeculationEconomy
from orchestrator.round import Ask
from orchestrator.session import Session
from tests.orchestrator.simulator import (
    MAX_K,
    World,
    adaptive,
    economy_of,
    failed_round,
    fixed,
    play,
)

CONCURRENCIES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Machine:
    """Where a deployment runs."""

    pass_s: Callable[[int], float]
    draft_step_s: Callable[[int], float]


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
machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
concurrencies = pytest.mark.parametrize("num_sessions", CONCURRENCIES)


def rounds(num_sessions: int) -> int:
    """Rounds that are enough to learn in, and to be measured by."""
    return max(1600 // num_sessions, 200)


def world_of(machine: Machine, acceptance: float, **more: float) -> World:
    return World(machine.pass_s, machine.draft_step_s, acceptance, **more)


@machines
@concurrencies
@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.6, 0.9])
def test_speculation_is_never_slower_than_plain_decoding(machine, num_sessions, acceptance):
    world = world_of(machine, acceptance)
    plain = play(world, fixed(0, num_sessions), rounds(num_sessions))
    chosen = play(world, adaptive(economy_of(world), num_sessions), rounds(num_sessions))
    assert chosen.rate >= 0.97 * plain.rate


@machines
@concurrencies
def test_with_a_good_draft_it_is_nearly_as_fast_as_the_best_fixed_k(machine, num_sessions):
    world = world_of(machine, 0.85)
    best = max(play(world, fixed(k, num_sessions), 300).rate for k in range(MAX_K + 1))
    chosen = play(world, adaptive(economy_of(world), num_sessions), rounds(num_sessions))
    assert chosen.rate >= 0.95 * best


@machines
def test_it_learns_costs_that_nobody_has_told(machine):
    world = world_of(machine, 0.8)
    best = max(play(world, fixed(k, 1), 1000).rate for k in range(MAX_K + 1))
    policies = adaptive(economy_of(world, knows_costs=False), 1)
    play(world, policies, 300)
    assert play(world, policies, 1000).rate >= 0.93 * best


def test_k_does_not_flap():
    world = world_of(MACHINES["cpu"], 0.7)
    policies = adaptive(economy_of(world), 1)
    play(world, policies, 200)
    ks = play(world, policies, 1000).ks
    num_changes = sum(before != after for before, after in pairwise(ks))
    assert num_changes < 50


@machines
def test_a_useless_draft_is_hardly_ever_asked(machine):
    world = world_of(machine, 0.0)
    policies = adaptive(economy_of(world), 1)
    play(world, policies, 100)
    ks = play(world, policies, 1000).ks
    assert sum(k > 0 for k in ks) <= 250 if machine is MACHINES["lookup"] else 60


def test_a_draft_that_becomes_good_is_found():
    world = world_of(MACHINES["gpu"], 0.0)
    policies = adaptive(economy_of(world), 1)
    assert set(play(world, policies, 500).ks[-20:]) <= {0, 1}
    world.acceptance = 0.9
    play(world, policies, 500)
    assert min(play(world, policies, 50).ks) >= 3


def test_a_draft_that_becomes_bad_is_given_up():
    world = world_of(MACHINES["cpu"], 0.95)
    policies = adaptive(economy_of(world), 1)
    assert min(play(world, policies, 300).ks[-20:]) >= 2
    world.acceptance = 0.0
    ks = play(world, policies, 40).ks
    assert ks[-1] == 0


def test_a_draft_tier_that_becomes_slow_is_given_up_and_found_again_when_it_is_fast():
    fast, slow = MACHINES["cpu"].draft_step_s, lambda _: 0.1
    world = world_of(MACHINES["cpu"], 0.9)
    policies = adaptive(economy_of(world), 1)
    play(world, policies, 300)
    world.draft_step_s = slow
    assert play(world, policies, 40).ks[-1] == 0
    world.draft_step_s = fast
    play(world, policies, 4000)
    assert min(play(world, policies, 50).ks) >= 2


def test_new_sessions_begin_with_what_others_have_learned():
    world = world_of(MACHINES["cpu"], 0.0)
    economy = economy_of(world)
    (first,) = adaptive(economy, 1)
    assert first.expects_speculation
    play(world, [first], 300)
    (second,) = adaptive(economy, 1)
    assert not second.expects_speculation


def test_sessions_of_other_temperatures_are_others():
    world = world_of(MACHINES["cpu"], 0.0)
    economy = economy_of(world)
    play(world, adaptive(economy, 1), 300)
    greedy = Session("greedy", (1,), 100, SamplingParams(temperature=0))
    assert AdaptivePolicy(economy, greedy, MAX_K).expects_speculation


def test_a_proposer_that_rarely_has_something_is_asked_as_long_as_asking_is_cheap():
    world = world_of(MACHINES["lookup"], 0.9, offered=0.2)
    plain = play(world, fixed(0, 1), 1500)
    policies = adaptive(economy_of(world), 1)
    play(world, policies, 200)
    chosen = play(world, policies, 1500)
    assert chosen.rate > 1.1 * plain.rate


def test_the_first_round_and_the_last_token_ask_for_no_draft():
    economy = SpeculationEconomy()
    start = Session("s", (1,), 11, SamplingParams())
    policy = AdaptivePolicy(economy, start, MAX_K)
    assert policy.ask(start) == Ask(0)
    last = Session("s", (1,) * 10, 11, SamplingParams(), round=5)
    assert policy.ask(last) == Ask(0)


def test_a_draft_is_waited_for_as_long_as_it_can_pay():
    world = world_of(MACHINES["gpu"], 0.9)
    policies = adaptive(economy_of(world), 1)
    play(world, policies, 100)
    ask = policies[0].ask(Session("s", (1,), 1000, SamplingParams(), round=5))
    assert ask.timeout_s is not None
    # 20 ms a token without it, and at most eight tokens with it.
    assert 0.02 <= ask.timeout_s <= 8 * 0.025


def test_a_failed_draft_says_nothing_of_acceptance():
    economy = SpeculationEconomy()
    session = Session("s", (1,), 1000, SamplingParams(), round=5)
    before = economy.acceptance(session).expect(MAX_K)
    policy = AdaptivePolicy(economy, session, MAX_K)
    for _ in range(20):
        policy.learn(failed_round(session, RoundTimings(0, 10_000_000, 0, 1, 1)))
    assert economy.acceptance(session).expect(MAX_K) == before
