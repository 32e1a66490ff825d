"""What bounds retries and rounds."""

from forethought.tier import PassCost
from orchestrator.replicas.retry_budget import RetryBudget
from orchestrator.tiers.round_limit import RoundLimit, expected_pass_s


def test_retries_end_with_the_budget():
    budget = RetryBudget(max_retries=2)
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_part_of_the_openings_that_succeed_pays_for_retries():
    budget = RetryBudget(per_success=0.25, max_retries=2)
    while budget.take():
        pass
    for _ in range(4):
        assert not budget.take()
        budget.succeeded()
    assert budget.take()


def test_no_more_retries_are_saved_than_the_budget_began_with():
    budget = RetryBudget(per_success=1, max_retries=2)
    for _ in range(100):
        budget.succeeded()
    assert [budget.take() for _ in range(3)] == [True, True, False]


def test_a_short_round_gets_some_seconds_in_any_case():
    assert RoundLimit(5.0, 20.0).seconds(0.01) == 5.0


def test_a_long_round_gets_many_times_what_it_should_take():
    assert RoundLimit(5.0, 20.0).seconds(2.0) == 40.0


def test_a_round_that_is_given_up_gets_twice_the_time_elsewhere():
    limits = [RoundLimit(5.0, 20.0).seconds(0.0, moves) for moves in range(3)]
    assert limits == [5.0, 10.0, 20.0]


def test_a_prompt_takes_as_long_as_its_tokens_do():
    costs = (PassCost(1, 10_000_000), PassCost(100, 200_000_000))
    assert expected_pass_s(costs, 1000) == 2.0
    assert expected_pass_s(costs, 3) == 0.2
    assert expected_pass_s((), 1000) == 0.0
