"""The judge is lossless: shown by following every path of a round in rational arithmetic."""

from dataclasses import replace

import pytest

from forethought.sampling.rejection import judge
from tests.exactness import twins
from tests.exactness.enumeration import Stack, is_lossless, joint_distribution
from tests.exactness.scenarios import LOPSIDED, PEAKED, SCENARIOS, TRUNCATED, WHOLE, WIDE

BROKEN = {
    "always accept": (WHOLE, Stack(judge=twins.always_accept)),
    "p and q swapped": (WHOLE, Stack(judge=twins.swapped_accept_test)),
    "residual not clipped": (PEAKED, Stack(judge=twins.unclipped_residual)),
    "bonus one position early": (WHOLE, Stack(judge=twins.bonus_from_last_drafted_position)),
    "q untruncated": (TRUNCATED, Stack(report=twins.untruncated)),
    "residual shares noise with draft": (
        LOPSIDED,
        Stack(judge=twins.residual_noise_shared_with_draft),
    ),
    "residual shares noise with tail": (
        WIDE,
        Stack(judge=twins.residual_noise_shared_with_tail),
    ),
    "tail shares noise with draft": (
        WIDE,
        Stack(target_randomness=twins.tail_noise_shared_with_draft),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_round_has_exactly_the_distribution_of_the_target(name: str) -> None:
    assert is_lossless(SCENARIOS[name], Stack())


@pytest.mark.parametrize("num_speculative_tokens", [0, 1, 2])
def test_a_round_is_lossless_for_every_number_of_guesses(num_speculative_tokens: int) -> None:
    for scenario in (WHOLE, TRUNCATED):
        shorter = replace(scenario, num_speculative_tokens=num_speculative_tokens)
        assert is_lossless(shorter, Stack())


@pytest.mark.parametrize("twin", BROKEN)
def test_the_enumeration_rejects_the_broken_twin(twin: str) -> None:
    scenario, broken = BROKEN[twin]
    assert is_lossless(scenario, Stack())
    assert not is_lossless(scenario, broken)


def test_the_twins_differ_from_the_judge_in_nothing_but_their_mistake() -> None:
    for scenario in (WHOLE, TRUNCATED, PEAKED, WIDE):
        faithful = joint_distribution(scenario, Stack(judge=twins.faithful))
        assert faithful == joint_distribution(scenario, Stack(judge=judge))


def test_every_sequence_is_reached_when_all_probabilities_are_positive() -> None:
    assert len(joint_distribution(WHOLE, Stack())) == 3**4
    assert len(joint_distribution(WIDE, Stack())) == 4**3


def test_temperature_0_leaves_only_the_greedy_sequence() -> None:
    greedy = SCENARIOS["temperature 0, q random, model 0"]
    assert list(joint_distribution(greedy, Stack()).values()) == [1]
