"""Costs that were measured beside other work, and are wrong by a factor of a hundred."""

from random import Random

import pytest

from forethought.tier import PassCost
from tests.orchestrator.simulator import (
    MAX_K,
    World,
    adaptive,
    experience_of,
    fixed,
    measured,
    play,
)

# Tokens verified without a further cost, and a draft that costs a seventh of a pass.
WORLD = {"pass_s": lambda n: max(0.02, 0.0002 * n), "draft_step_s": lambda _: 0.003}
TOO_LONG, TOO_SHORT = 100.0, 0.01
ROUNDS_TO_RECOVER = 60
"""Of each session."""


def scaled(costs: tuple[PassCost, ...], plain: float, others: float) -> tuple[PassCost, ...]:
    return tuple(
        PassCost(
            cost.num_tokens, round(cost.forward_ns * (plain if cost.num_tokens == 1 else others))
        )
        for cost in costs
    )


def deployment(world: World, *, plain: float = 1, verifying: float = 1, drafting: float = 1):
    """One that has measured its passes so many times too long."""
    target = scaled(measured(world.pass_s), plain, verifying)
    draft = scaled(measured(world.draft_step_s), drafting, drafting)
    return experience_of(world, target, draft)


WRONG = {
    f"{name} {word}": dict.fromkeys(kinds, factor)
    for word, factor in (("too long", TOO_LONG), ("too short", TOO_SHORT))
    for name, kinds in (
        ("the target", ("plain", "verifying")),
        ("the draft", ("drafting",)),
        ("both", ("plain", "verifying", "drafting")),
        ("plain passes", ("plain",)),
        ("verification", ("verifying",)),
    )
}
wrongs = pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)


@wrongs
@pytest.mark.parametrize("num_sessions", [1, 4])
def test_a_good_draft_is_used_soon_whatever_was_measured(wrong, num_sessions):
    world = World(acceptance=0.9, noise=0.03, dice=Random(7), **WORLD)
    best = max(play(world, fixed(k, num_sessions), 300).rate for k in range(MAX_K + 1))
    policies = adaptive(deployment(world, **wrong), num_sessions)
    play(world, policies, ROUNDS_TO_RECOVER)
    assert play(world, policies, 400).rate >= 0.88 * best


@wrongs
@pytest.mark.parametrize("num_sessions", [1, 4])
def test_a_useless_draft_costs_little_whatever_was_measured(wrong, num_sessions):
    world = World(acceptance=0.0, noise=0.03, dice=Random(7), **WORLD)
    plain = play(world, fixed(0, num_sessions), 300)
    policies = adaptive(deployment(world, **wrong), num_sessions)
    assert play(world, policies, ROUNDS_TO_RECOVER).rate >= 0.85 * plain.rate
    assert play(world, policies, 400).rate >= 0.96 * plain.rate


def test_a_draft_that_is_as_slow_as_it_says_is_tried_once_and_not_waited_for():
    world = World(WORLD["pass_s"], lambda _: 0.3, acceptance=0.9, noise=0.03, dice=Random(7))
    plain = play(world, fixed(0, 1), 300)
    policies = adaptive(deployment(world), 1)
    assert play(world, policies, 100).rate >= 0.85 * plain.rate
    assert play(world, policies, 400).rate >= 0.96 * plain.rate


@pytest.mark.parametrize("num_sessions", [1, 4])
def test_a_draft_that_stopped_for_a_while_is_used_again_soon(num_sessions):
    """What was waited for it says nothing of its cost, which is next to nothing."""
    world = World(lambda _: 0.05, lambda _: 0.0005, acceptance=0.9, noise=0.03, dice=Random(7))
    policies = adaptive(deployment(world), num_sessions)
    before = play(world, policies, 200)
    step_s, world.draft_step_s = world.draft_step_s, lambda _: 10.0
    play(world, policies, 24)
    world.draft_step_s = step_s
    assert play(world, policies, 200).rate >= 0.9 * before.rate
