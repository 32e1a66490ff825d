"""The policy follows a draft tier that is scaled to none and back, within seconds."""

import pytest

from orchestrator.policy.choice import AdaptivePolicy
from tests.orchestrator.policy_scenarios import MACHINES, Machine
from tests.orchestrator.simulator import Run, World, adaptive, experience_of, fixed, play

NUM_SESSIONS = 2
NUM_ROUNDS = 200


def seconds_until_drafts(world: World, policies: list[AdaptivePolicy]) -> float:
    """Until most of the rounds have a draft."""
    seconds = 0.0
    while True:
        run = play(world, policies, 10)
        seconds += run.seconds
        if run.num_tokens > 1.5 * len(run.ks):
            return seconds
        assert seconds < 60


def pace_without(world: World, policies: list[AdaptivePolicy]) -> tuple[Run, Run]:
    """What the policy makes where there is no draft tier, and what plain decoding does."""
    world.has_drafts = False
    return play(world, policies, NUM_ROUNDS), play(world, fixed(0, NUM_SESSIONS), NUM_ROUNDS)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_the_policy_follows_a_draft_tier_that_comes_and_goes(machine: Machine):
    world = World(machine.pass_s, machine.draft_step_s, acceptance=0.9, has_drafts=False)
    policies = adaptive(experience_of(world), NUM_SESSIONS)
    for _ in range(3):
        policy, plain = pace_without(world, policies)
        assert policy.rate > 0.97 * plain.rate
        world.has_drafts = True
        assert seconds_until_drafts(world, policies) < 10
