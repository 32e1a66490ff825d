"""Block verification is lossless, and accepts no fewer guesses on average than rejection sampling.

Every path of one round, and of two in a row, in rational arithmetic.
"""

from dataclasses import replace

import pytest

from forethought.sampling.block import judge_block
from forethought.sampling.randomness import Stream
from tests.exactness import block_twins
from tests.exactness.enumeration import (
    Scenario,
    Stack,
    is_lossless,
    joint_distribution,
    mean_num_accepted,
    random_model,
)
from tests.exactness.scenarios import PEAKED, POSITIVE, SCENARIOS, TRUNCATED, WHOLE, WIDE

BLOCK, REJECTION = Stack(judge=judge_block), Stack()
# Few tokens keep the paths of two rounds few.
TWO_ROUNDS = {
    f"vocabulary of {size}, M = {support_size}, K = {k}": Scenario(
        random_model(f"target {size}", POSITIVE, size),
        random_model(f"draft {size}", POSITIVE, size),
        support_size,
        num_speculative_tokens=k,
    )
    for size, support_size, k in [(2, 1, 2), (2, 1, 3), (2, 2, 3), (3, 2, 2)]
}
TWO_TOKENS = TWO_ROUNDS["vocabulary of 2, M = 2, K = 3"]

BROKEN = {
    "guess by guess with block's residual": (WHOLE, block_twins.guess_by_guess),
    "weights above one": (WHOLE, block_twins.uncapped_weight),
    "residual without the weight": (PEAKED, block_twins.plain_residual),
    "first beginning instead of the longest": (WHOLE, block_twins.shortest_kept),
    "kept wherever anything is left": (WHOLE, block_twins.kept_where_anything_is_left),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_round_has_exactly_the_distribution_of_the_target(name: str) -> None:
    assert is_lossless(SCENARIOS[name], BLOCK)


@pytest.mark.parametrize("num_speculative_tokens", [0, 1, 2, 4])
def test_a_round_is_lossless_for_every_number_of_guesses(num_speculative_tokens: int) -> None:
    few = (TWO_TOKENS, TWO_ROUNDS["vocabulary of 2, M = 1, K = 3"])
    for scenario in (WHOLE, TRUNCATED) if num_speculative_tokens < 4 else few:
        longer = replace(scenario, num_speculative_tokens=num_speculative_tokens)
        assert is_lossless(longer, BLOCK)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_fewer_guesses_are_accepted_than_by_rejection_sampling(name: str) -> None:
    scenario = SCENARIOS[name]
    assert mean_num_accepted(scenario, BLOCK) >= mean_num_accepted(scenario, REJECTION)


@pytest.mark.parametrize("scenario", [WHOLE, TRUNCATED, PEAKED, WIDE])
def test_more_guesses_are_accepted_where_p_and_q_differ(scenario: Scenario) -> None:
    assert mean_num_accepted(scenario, BLOCK) > mean_num_accepted(scenario, REJECTION)


@pytest.mark.parametrize("name", SCENARIOS)
def test_one_guess_is_judged_as_by_rejection_sampling(name: str) -> None:
    one = replace(SCENARIOS[name], num_speculative_tokens=1)
    assert mean_num_accepted(one, BLOCK) == mean_num_accepted(one, REJECTION)
    assert joint_distribution(one, BLOCK) == joint_distribution(one, REJECTION)


@pytest.mark.parametrize("name", TWO_ROUNDS)
def test_two_rounds_in_a_row_have_exactly_the_distribution_of_the_target(name: str) -> None:
    assert is_lossless(TWO_ROUNDS[name], BLOCK, num_rounds=2)
    assert is_lossless(TWO_ROUNDS[name], REJECTION, num_rounds=2)


@pytest.mark.parametrize("stream", [Stream.ACCEPT, Stream.DRAFT])
def test_two_rounds_reject_draws_that_are_keyed_by_position_only(stream: Stream) -> None:
    shared = replace(BLOCK, not_by_round=(stream,))
    assert is_lossless(TWO_TOKENS, shared)  # one round alone cannot know
    assert not is_lossless(TWO_TOKENS, shared, num_rounds=2)


def test_rejection_sampling_never_tests_a_position_twice() -> None:
    shared = replace(REJECTION, not_by_round=(Stream.ACCEPT,))
    assert is_lossless(TWO_TOKENS, shared, num_rounds=2)


@pytest.mark.parametrize("twin", BROKEN)
def test_the_enumeration_rejects_the_broken_twin(twin: str) -> None:
    scenario, broken = BROKEN[twin]
    assert is_lossless(scenario, BLOCK)
    assert not is_lossless(scenario, Stack(judge=broken))


def test_the_twins_differ_from_the_judge_in_nothing_but_their_mistake() -> None:
    for scenario in (WHOLE, TRUNCATED, PEAKED, WIDE):
        faithful = joint_distribution(scenario, Stack(judge=block_twins.faithful))
        assert faithful == joint_distribution(scenario, BLOCK)
