"""The judge is lossless: shown by following every path of a round in rational arithmetic."""

from dataclasses import replace
from fractions import Fraction

import pytest

from forethought.sampling.rejection import judge
from tests.exactness import twins
from tests.exactness.enumeration import (
    Scenario,
    Stack,
    joint_distribution,
    random_model,
    target_distribution,
)

POSITIVE = (1, 2, 3, 5, 7)
WITH_ZEROS = (0, 0, 1, 2, 5)
ONE_HOT = (0,)


def scenario(name: str, target: tuple[int, ...], draft: tuple[int, ...], size: int) -> Scenario:
    return Scenario(random_model(f"target {name}", target), random_model(name, draft), size)


SCENARIOS = {
    f"{name}, model {seed}": scenario(f"{name} {seed}", target, draft, support_size)
    for seed in range(4)
    for name, target, draft, support_size in [
        ("q whole", POSITIVE, POSITIVE, 3),
        ("q truncated to two", POSITIVE, POSITIVE, 2),
        ("q truncated to one", POSITIVE, POSITIVE, 1),
        ("zeros in p", WITH_ZEROS, POSITIVE, 2),
        ("zeros in p and q", WITH_ZEROS, WITH_ZEROS, 2),
        ("zeros in q, whole", POSITIVE, WITH_ZEROS, 3),
        ("temperature 0, q random", ONE_HOT, POSITIVE, 2),
        ("temperature 0, q one-hot", ONE_HOT, ONE_HOT, 1),
        ("temperature 0, q one-hot, more listed", ONE_HOT, ONE_HOT, 2),
    ]
}
EQUAL = random_model("both", POSITIVE)
SCENARIOS |= {
    "q equal to p": Scenario(EQUAL, EQUAL, 3),
    "q equal to p, truncated": Scenario(EQUAL, EQUAL, 2),
}
# Room for a random q and for two tokens outside its support.
SCENARIOS |= {
    f"vocabulary of four, model {seed}": Scenario(
        random_model(f"target {seed}", POSITIVE, 4),
        random_model(f"draft {seed}", POSITIVE, 4),
        support_size=2,
        num_speculative_tokens=2,
    )
    for seed in range(4)
}

WHOLE, TRUNCATED = SCENARIOS["q whole, model 0"], SCENARIOS["q truncated to two, model 0"]
# q puts most of its mass on one token, so that the residual has several.
PEAKED = Scenario(random_model("flat", (3, 4, 5)), random_model("peaked", (1, 1, 20)), 3)
WIDE = SCENARIOS["vocabulary of four, model 0"]
# Only token 0 is ever rejected, and then the draft's noise lay in [0, 1/2).
LOPSIDED = Scenario(
    target=lambda prefix: (Fraction(0), Fraction(3, 4), Fraction(1, 4)),
    draft=lambda prefix: (Fraction(1, 2), Fraction(1, 2), Fraction(0)),
    support_size=3,
)

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


def is_lossless(scenario: Scenario, stack: Stack) -> bool:
    """Whether all sequences of K + 1 tokens have exactly the target's probability."""
    return joint_distribution(scenario, stack) == target_distribution(scenario)


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
