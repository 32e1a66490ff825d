"""The adaptive policy in simulated deployments: what it chooses, and what that is worth."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from random import Random
from statistics import median
from typing import Any

import pytest

from forethought.sampling.params import SamplingParams
from forethought.tier import RoundTimings
from orchestrator.loop.decode_loop import SpeculationPolicy
from orchestrator.loop.round import Ask
from orchestrator.loop.session import Session
from orchestrator.policy.acceptance import Acceptance
from orchestrator.policy.choice import AdaptivePolicy, Experience, FixedPolicy
from orchestrator.policy.governor import Governor
from orchestrator.policy.round_times import load_of
from tests.orchestrator.policy_scenarios import MACHINES, Machine, stairs
from tests.orchestrator.simulator import (
    MAX_K,
    Run,
    World,
    adaptive,
    experience_of,
    failed_round,
    fixed,
    measured,
    new_session,
    play,
    serve,
)

CONCURRENCIES = (1, 2, 4, 8, 16, 32)


machines = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
concurrencies = pytest.mark.parametrize("num_sessions", CONCURRENCIES)


def rounds(num_sessions: int) -> int:
    """Rounds that are enough to be measured by."""
    return max(1200 // num_sessions, 150)


def world_of(machine: Machine, acceptance: float, **more: Any) -> World:
    return World(machine.pass_s, machine.draft_step_s, acceptance, **more)


@machines
@pytest.mark.parametrize("num_sessions", [1, 4, 16])
@pytest.mark.parametrize("acceptance", [0.0, 0.5, 0.9])
def test_speculation_is_never_slower_than_plain_decoding(machine, num_sessions, acceptance):
    world = world_of(machine, acceptance)
    plain = play(world, fixed(0, num_sessions), 300)
    policies = adaptive(experience_of(world), num_sessions)
    learning = play(world, policies, 100)
    assert learning.rate >= 0.85 * plain.rate
    assert play(world, policies, rounds(num_sessions)).rate >= 0.96 * plain.rate


@machines
def test_with_a_good_draft_it_is_nearly_as_fast_as_the_best_fixed_k(machine):
    world = world_of(machine, 0.85)
    best = max(play(world, fixed(k, 1), 1500).rate for k in range(MAX_K + 1))
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 100)
    assert play(world, policies, 3000).rate >= 0.95 * best


@machines
@pytest.mark.parametrize("acceptance", [0.0, 0.9])
@pytest.mark.parametrize("contention", [0.0, 1.0])
def test_bursts_of_changing_size_are_never_slower_than_plain_ones(machine, acceptance, contention):
    """Whether the tiers share a processor, and whether there is any time to learn it in, or not."""
    ratios: dict[int, list[float]] = {1: [], 4: [], 16: []}
    for seed in range(3):
        world = world_of(machine, acceptance, contention=contention, noise=0.03, dice=Random(seed))
        new_adaptive = partial(AdaptivePolicy, experience_of(world))
        for num_sessions, known in list(ratios.items()) * 5:
            num_requests = max(num_sessions, 6)
            plain = serve(world, lambda _: FixedPolicy(0), num_sessions, num_requests)
            known.append(serve(world, new_adaptive, num_sessions, num_requests).rate / plain.rate)
    assert min(min(known) for known in ratios.values()) >= 0.7
    assert min(median(known) for known in ratios.values()) >= 0.97


@machines
def test_short_requests_with_a_good_draft_are_nearly_as_fast_as_with_the_best_fixed_k(machine):
    world = world_of(machine, 0.9, noise=0.03)
    rates = [serve(world, lambda _, k=k: FixedPolicy(k), 1, 40).rate for k in range(MAX_K + 1)]
    new_adaptive = partial(AdaptivePolicy, experience_of(world))
    serve(world, new_adaptive, 1, 6)
    assert serve(world, new_adaptive, 1, 60).rate >= 0.95 * max(rates)


def test_texts_that_change_on_a_machine_that_others_use_cost_it_little():
    """Drafts are worth 1.3 times the speed on average, and what rounds take wanders by a seventh:
    neither a text that is hard to guess nor a slow second may put an end to speculation."""
    ratios = [_beside_fixed_ones(seed, (0.4, 0.47, 0.36, 0.3)) for seed in range(9)]
    assert median(to_best for _, to_best in ratios) >= 0.94
    assert median(to_plain for to_plain, _ in ratios) >= 1.2
    useless = [_beside_fixed_ones(seed, (0.02,)) for seed in range(5)]
    assert median(to_plain for to_plain, _ in useless) >= 0.97


@pytest.mark.parametrize("num_sessions", [1, 4])
def test_drafts_that_begin_to_slow_the_target_down_are_not_taken_for_a_slow_machine(num_sessions):
    world = World(lambda n: 0.0145 + 0.00055 * n, lambda _: 0.0007, 0.5)
    policies = adaptive(experience_of(world), num_sessions)
    play(world, policies, 400)
    world.contention = 1.0
    play(world, policies, 100)
    plain = play(world, fixed(0, num_sessions), 300)
    assert play(world, policies, 600).rate >= 0.96 * plain.rate


@pytest.mark.parametrize("num_sessions", [1, 4])
def test_a_machine_that_stalls_now_and_then_does_not_put_an_end_to_speculation(num_sessions):
    """A pass in two hundred takes the time of twenty: that says nothing of drafts."""
    world = World(lambda n: 0.0145 + 0.00055 * n, lambda _: 0.0007, 0.6, stalls=0.005)
    best = max(play(world, fixed(k, num_sessions), 3000 // num_sessions).rate for k in (0, 2, 3))
    policies = adaptive(experience_of(world), num_sessions)
    play(world, policies, 200)
    assert play(world, policies, 6000 // num_sessions).rate >= 0.85 * best


def _beside_fixed_ones(seed: int, acceptances: Sequence[float]) -> tuple[float, float]:
    """Speed of the adaptive policy over plain decoding, and over the best fixed K, in turns."""
    slowness, dice = 0.0, Random(seed)

    def pass_s(num_tokens: int) -> float:
        return 0.015 + 0.00055 * (num_tokens - 1)

    def drifting_pass_s(num_tokens: int) -> float:
        nonlocal slowness
        slowness = 0.99 * slowness + dice.gauss(0, 0.02)
        if dice.random() < 0.002:
            slowness += dice.choice((-0.2, 0.2))
        return pass_s(num_tokens) * math.exp(slowness)

    def draft_step_s(num_sessions: int) -> float:
        return 0.0007 + 0.00014 * (num_sessions - 1)

    world = World(drifting_pass_s, draft_step_s, 0.0, overhead_s=0.0015, dice=Random(100 + seed))
    governor = Governor(MAX_K, measured(pass_s), measured(draft_step_s))
    arms: dict[str, Callable[[Session], SpeculationPolicy]] = {
        "adaptive": partial(AdaptivePolicy, Experience(governor)),
        **{f"K = {k}": lambda _, k=k: FixedPolicy(k) for k in (0, 2, 3)},
    }
    runs: dict[str, list[Run]] = {name: [] for name in arms}
    for turn in range(24):
        world.acceptance = acceptances[turn % len(acceptances)]
        for name, new_policy in arms.items():
            runs[name].append(serve(world, new_policy, 1, 2))
    rates = {
        name: sum(run.num_tokens for run in own) / sum(run.seconds for run in own)
        for name, own in runs.items()
    }
    chosen = rates.pop("adaptive")
    return chosen / rates["K = 0"], chosen / max(rates.values())


@concurrencies
def test_it_pays_as_long_as_passes_have_room(num_sessions):
    world = world_of(MACHINES["gpu"], 0.85)
    plain = play(world, fixed(0, num_sessions), 300)
    policies = adaptive(experience_of(world), num_sessions)
    play(world, policies, 100)
    assert play(world, policies, 200).rate >= (1.5 if num_sessions > 16 else 2.0) * plain.rate


@machines
@pytest.mark.parametrize("error", [2.0, 4.0])
def test_it_learns_what_was_measured_wrong(machine, error):
    """A tier that is disturbed while it starts takes longer for some sizes, never less long."""
    world = world_of(machine, 0.8)
    best = max(play(world, fixed(k, 1), 600).rate for k in range(MAX_K + 1))
    wrong = measured(lambda n: machine.pass_s(n) * (error if n % 3 else 1))
    policies = adaptive(experience_of(world, wrong), 1)
    play(world, policies, 1500)
    assert play(world, policies, 1500).rate >= 0.88 * best


def test_k_does_not_flap():
    world = world_of(MACHINES["cpu"], 0.7)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 200)
    usual_ks = [usual(play(world, policies, 16).ks) for _ in range(60)]
    assert sum(before != after for before, after in pairwise(usual_ks)) <= 6


def usual(ks: Sequence[int]) -> int:
    """The K of most rounds: now and then one tries another."""
    return Counter(ks).most_common(1)[0][0]


@machines
def test_a_useless_draft_is_hardly_ever_asked(machine):
    world = world_of(machine, 0.0)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 100)
    ks = play(world, policies, 1000).ks
    assert sum(k > 0 for k in ks) <= (350 if machine is MACHINES["lookup"] else 100)


def test_attempts_that_keep_failing_become_rare():
    """They may lose forty rounds of four thousand, and a round with a draft loses half of one."""
    world = world_of(MACHINES["cpu"], 0.0)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 4000)
    assert sum(k > 0 for k in play(world, policies, 4000).ks) <= 85


def test_a_draft_that_becomes_good_is_found():
    world = world_of(MACHINES["gpu"], 0.0)
    policies = adaptive(experience_of(world), 1)
    assert usual(play(world, policies, 500).ks[-20:]) == 0
    world.acceptance = 0.9
    play(world, policies, 500)
    assert usual(play(world, policies, 50).ks) >= 3


@pytest.mark.parametrize("num_sessions", [1, 4])
def test_a_deployments_first_draft_may_wait_for_its_prompt(num_sessions):
    world = world_of(MACHINES["gpu"], 0.9)
    policies = adaptive(experience_of(world), num_sessions)
    step_s, world.draft_step_s = world.draft_step_s, lambda _: 10.0
    while not any(play(world, policies, 1).ks):
        pass  # plain decoding comes to be known
    world.draft_step_s, world.has_drafts = step_s, False  # what is late is not waited for again
    play(world, policies, 8)
    world.has_drafts = True
    assert usual(play(world, policies, 40).ks[-10 * num_sessions :]) >= 3


def test_a_draft_that_becomes_bad_is_given_up():
    world = world_of(MACHINES["cpu"], 0.95)
    policies = adaptive(experience_of(world), 1)
    assert usual(play(world, policies, 300).ks[-20:]) >= 2
    world.acceptance = 0.0
    ks = play(world, policies, 60).ks
    assert usual(ks[-12:]) == 0


def test_a_draft_tier_that_becomes_slow_is_given_up_and_found_again_when_it_is_fast():
    fast, slow = MACHINES["cpu"].draft_step_s, lambda _: 0.1
    world = world_of(MACHINES["cpu"], 0.9)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 300)
    world.draft_step_s = slow
    assert usual(play(world, policies, 60).ks[-12:]) == 0
    world.draft_step_s = fast
    play(world, policies, 4000)
    assert usual(play(world, policies, 50).ks) >= 2


@machines
@pytest.mark.parametrize("num_sessions", [1, 8])
@pytest.mark.parametrize("acceptance", [0.0, 0.9])
def test_a_draft_tier_far_slower_than_it_said_is_given_up(machine, num_sessions, acceptance):
    """Its drafts come too late to be used, and say nothing but that."""
    world = world_of(machine, acceptance)
    plain = play(world, fixed(0, num_sessions), 300)
    experience = experience_of(world)
    world.draft_step_s = lambda batch_size: 0.05 + 20 * machine.draft_step_s(batch_size)
    policies = adaptive(experience, num_sessions)
    play(world, policies, 100)
    assert play(world, policies, 600).rate >= 0.94 * plain.rate


@pytest.mark.parametrize("acceptance", [0.0, 0.9])
def test_new_sessions_begin_with_what_others_have_learned(acceptance):
    world = world_of(MACHINES["gpu"], acceptance)
    experience = experience_of(world)
    (first,) = adaptive(experience, 1)
    assert not first.expects_speculation  # there is nothing to compare it with
    play(world, [first], 100)
    first.close()
    (second,) = adaptive(experience, 1)
    assert second.expects_speculation == (acceptance > 0)


def test_loads_from_one_to_its_double_are_alike():
    alike = [(1,), (2,), (3, 4), (5, 6, 7, 8), (9, 16), (17, 32)]
    assert [{load_of(number) for number in numbers} for numbers in alike] == [{n} for n in range(6)]


def test_sessions_of_other_temperatures_are_others():
    world = world_of(MACHINES["lookup"], 0.0)
    experience = experience_of(world, draft_costs=())
    (sampling,) = adaptive(experience, 1)
    play(world, [sampling], 300)
    sampling.close()
    greedy = Session("greedy", (1,), 100, SamplingParams(temperature=0))
    nothing_known = Acceptance().expect(MAX_K)
    assert experience.acceptance(greedy).expect(MAX_K) == nothing_known
    assert experience.acceptance(new_session()).expect(MAX_K) != nothing_known


def test_a_proposer_that_rarely_has_something_is_asked_as_long_as_asking_is_cheap():
    world = world_of(MACHINES["lookup"], 0.9, offered=0.2)
    plain = play(world, fixed(0, 1), 1500)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 200)
    chosen = play(world, policies, 1500)
    assert chosen.rate > 1.1 * plain.rate


def test_the_first_round_asks_for_no_draft():
    experience = Experience(Governor(MAX_K))
    start = Session("s", (1,), 11, SamplingParams())
    policy = AdaptivePolicy(experience, start)
    assert policy.ask(start).num_speculative_tokens == 0


def test_while_nothing_is_drafted_the_next_round_is_expected_to_be_plain_too():
    world = world_of(MACHINES["cpu"], 0.0)
    (policy,) = adaptive(experience_of(world), 1)
    play(world, [policy], 300)
    asks = [policy.ask(replace(new_session(), round=number)) for number in range(1, 5)]
    assert Ask(0, next_is_plain=True) in asks
    assert all(ask.next_is_plain == (not ask.num_speculative_tokens) for ask in asks)


def test_a_draft_is_waited_for_as_long_as_it_can_pay():
    world = world_of(MACHINES["gpu"], 0.9)
    policies = adaptive(experience_of(world), 1)
    play(world, policies, 100)
    ask = policies[0].ask(Session("s", (1,), 1000, SamplingParams(), round=5))
    assert ask.timeout_s is not None
    # 20 ms a token without it, and at most eight tokens with it.
    assert 0.02 <= ask.timeout_s <= 8 * 0.025


def test_a_failed_draft_says_nothing_of_acceptance():
    experience = Experience(Governor(MAX_K))
    session = Session("s", (1,), 1000, SamplingParams(), round=5)
    before = experience.acceptance(session).expect(MAX_K)
    policy = AdaptivePolicy(experience, session)
    for _ in range(20):
        policy.learn(failed_round(session, RoundTimings(0, 10_000_000, 0, 1, 1)))
    assert experience.acceptance(session).expect(MAX_K) == before


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.9])
@concurrencies
def test_where_drafts_are_free_speculation_is_never_slower_and_good_drafts_are_taken(
    acceptance, num_sessions
):
    """All is looked up by the orchestrator: costs decide, from the first round on."""
    world = World(stairs, lambda _: 0.0, acceptance, offered=0.5)
    experience = experience_of(world, drafts_are_free=True)
    plain = play(world, fixed(0, num_sessions), rounds(num_sessions))
    policies = adaptive(experience, num_sessions)
    assert play(world, policies, 60).rate >= 0.85 * plain.rate
    chosen = play(world, policies, rounds(num_sessions))
    assert chosen.rate >= 0.96 * plain.rate
    if acceptance == 0.9 and num_sessions == 1:
        best = max(play(world, fixed(k, 1), 1200).rate for k in range(MAX_K + 1))
        assert chosen.rate >= 0.95 * best


@pytest.mark.parametrize("acceptance", [0.3, 0.6])
def test_what_a_drafted_token_costs_besides_its_place_in_the_pass_is_counted(acceptance):
    """Here a pass takes the same time for any draft, so a policy that saw nothing but passes would
    take the longest."""
    world = World(lambda _: 0.004, lambda _: 0.0, acceptance, token_overhead_s=0.002)
    experience = experience_of(world, drafts_are_free=True)
    policies = adaptive(experience, 1)
    play(world, policies, 200)
    best = max(play(world, fixed(k, 1), 2000).rate for k in range(MAX_K + 1))
    assert play(world, fixed(MAX_K, 1), 2000).rate < 0.6 * best
    assert play(world, policies, 1200).rate >= 0.95 * best


def test_free_drafts_that_become_good_are_found():
    world = World(stairs, lambda _: 0.0, acceptance=0.0)
    experience = experience_of(world, drafts_are_free=True)
    policies = adaptive(experience, 1)
    # A pass over four tokens takes as long as one over one: there is nothing in it for or against.
    assert usual(play(world, policies, 300).ks[-30:]) <= 3
    world.acceptance = 0.9
    play(world, policies, 600)
    assert usual(play(world, policies, 50).ks) >= 3
