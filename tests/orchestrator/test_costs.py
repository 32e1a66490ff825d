"""What passes and drafts are taken to cost, from measurements and from what was seen."""

import math

import pytest

from forethought.tier import PassCost
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.costs import DraftCosts, Drift, PassCosts
from orchestrator.policy.round_costs import RoundCosts

MEASURED = [PassCost(1, 8_000_000), PassCost(5, 12_000_000), PassCost(21, 20_000_000)]
"""8, 12 and 20 ms."""


def test_before_anything_is_seen_passes_cost_what_was_measured_and_in_between_in_proportion():
    costs = PassCosts(MEASURED)
    expected = {1: 8, 3: 10, 5: 12, 13: 16, 21: 20, 37: 28}
    assert {size: costs.estimate(size) * 1000 for size in expected} == pytest.approx(expected)


def test_a_pass_over_nothing_is_one_over_one_token():
    assert PassCosts(MEASURED).estimate(0.5) == PassCosts(MEASURED).estimate(1)


def test_a_longer_pass_that_was_measured_as_faster_is_not_taken_for_faster():
    costs = PassCosts([PassCost(1, 8_000_000), PassCost(5, 6_000_000)])
    assert costs.estimate(5) == costs.estimate(1)


def test_where_nothing_was_measured_further_tokens_cost_little_until_they_are_seen():
    costs = PassCosts([])
    assert costs.estimate(1) == pytest.approx(0.001)
    assert costs.estimate(2) == pytest.approx(0.001 * 31 / 30)


def test_what_is_seen_of_a_size_corrects_it_and_the_nearest_correction_the_sizes_never_seen():
    costs = PassCosts(MEASURED)
    for _ in range(50):
        costs.observe(1, 0.016)
        costs.observe(5, 0.012)
    assert costs.estimate(1) == pytest.approx(0.016, rel=0.01)
    assert costs.estimate(5) == pytest.approx(0.012, rel=0.01)
    assert costs.estimate(2) == pytest.approx(2 * 0.009, rel=0.01)
    assert costs.estimate(21) == pytest.approx(0.020, rel=0.01)


def test_one_pass_that_took_a_hundred_times_as_long_is_not_believed():
    costs = PassCosts(MEASURED)
    for _ in range(20):
        costs.observe(1, 0.008)
    costs.observe(1, 0.8)
    assert costs.estimate(1) < 0.008 * math.exp(0.2)


def test_a_pass_that_many_share_counts_once():
    alone, shared = PassCosts(MEASURED), PassCosts(MEASURED)
    alone.observe(5, 0.024)
    for _ in range(8):
        shared.observe(5, 0.024, num_passes=1 / 8)
    assert shared.estimate(5) == pytest.approx(alone.estimate(5), rel=0.25)


def test_a_machine_that_slows_down_is_slow_for_sizes_that_are_not_seen_meanwhile():
    costs = PassCosts(MEASURED, drift=Drift(), tells_drift=True)
    for _ in range(50):
        costs.observe(1, 0.008)
        costs.observe(5, 0.012)
    for _ in range(60):
        costs.observe(1, 0.016)
    assert costs.estimate(1) == pytest.approx(0.016, rel=0.05)
    assert costs.estimate(5) > 0.012 * 1.5


def test_passes_beside_drafts_do_not_make_the_machine_slow():
    drift = Drift()
    plain = PassCosts(MEASURED, drift=drift, tells_drift=True)
    beside = PassCosts(MEASURED, like=plain, drift=drift)
    for _ in range(60):
        beside.observe(5, 0.036)
    assert drift.log_factor == 0
    assert plain.estimate(5) == pytest.approx(0.012)
    assert beside.estimate(5) == pytest.approx(0.036, rel=0.05)


def test_passes_beside_drafts_are_taken_for_plain_ones_until_one_is_seen():
    plain = PassCosts(MEASURED)
    beside = PassCosts(MEASURED, like=plain)
    for _ in range(50):
        plain.observe(5, 0.024)
    assert beside.estimate(5) == pytest.approx(plain.estimate(5))


def test_a_draft_takes_a_pass_for_each_token_and_a_way():
    costs = DraftCosts(PassCosts([PassCost(1, 2_000_000), PassCost(9, 4_000_000)]))
    assert costs.estimate(0, 1) == 0
    assert costs.estimate(3, 1) == pytest.approx(0.0005 + 3 * 0.002)
    assert costs.estimate(3, 9) == pytest.approx(0.0005 + 3 * 0.004)


def test_what_a_draft_was_seen_to_take_is_forgotten_with_time():
    costs = DraftCosts(PassCosts([PassCost(1, 2_000_000)]))
    for _ in range(50):
        costs.observe(2, 1, 0.02)
    assert costs.estimate(2, 1) == pytest.approx(0.02, rel=0.01)
    for _ in range(2000):
        costs.forget(0.003)
    assert costs.estimate(2, 1) == pytest.approx(0.0045, rel=0.01)


def test_sessions_share_passes_with_those_of_their_own_target_alone():
    target, draft = (PassCost(1, 10**7), PassCost(64, 10**8)), (PassCost(1, 10**6),)
    expected = Expectation([0.0, 1.0, 2.0], [1.0, 1.8, 2.4])
    spread, alone = RoundCosts(target, draft), RoundCosts(target, draft)
    spread.num_targets = 4
    assert spread.num_alike(32) == alone.num_alike(8) == 8
    for k in range(3):
        assert spread.round_s(k, expected, 32) == alone.round_s(k, expected, 8)
    assert spread.nominal_s(32) == alone.nominal_s(8)
