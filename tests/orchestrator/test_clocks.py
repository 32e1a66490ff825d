"""How long rounds are taken to last, from profiles and from what clocks say."""

import pytest

from forethought.pass_profile import PassProfile
from forethought.tier import PassCost
from orchestrator.policy.acceptance import Expectation
from orchestrator.policy.round_times import SURPRISE, Clocks, RoundTimes

MEASURED = [PassCost(1, 8_000_000), PassCost(5, 12_000_000), PassCost(21, 20_000_000)]
"""8, 12 and 20 ms."""
EXPECTED = Expectation([0.0, 1.0, 2.0], [1.0, 1.8, 2.4])


def observe(clocks: Clocks, k: int, ratio: float, times: int = 1, *, num_sessions: int = 1) -> None:
    for _ in range(times):
        clocks.observe(num_sessions, k, 0.01 * ratio, 0.01)


def test_before_anything_is_seen_passes_take_what_was_measured_and_in_between_in_proportion():
    profile = PassProfile(MEASURED)
    expected = {0.5: 8, 1: 8, 3: 10, 5: 12, 13: 16, 21: 20, 37: 28}
    assert {size: profile(size) * 1000 for size in expected} == pytest.approx(expected)


def test_a_longer_pass_that_was_measured_as_faster_is_not_taken_for_faster():
    profile = PassProfile([PassCost(1, 8_000_000), PassCost(5, 6_000_000)])
    assert profile(5) == profile(1)


def test_what_a_pass_takes_at_most_is_beyond_the_largest_measured_in_proportion():
    profile = PassProfile(MEASURED)
    assert [profile.at_most(size) * 1000 for size in (1, 13, 21, 42)] == [8, 16, 20, 40]


def test_a_clock_is_believed_at_once_where_the_profile_is_wrong_by_any_factor():
    clocks = Clocks()
    observe(clocks, 0, 1.0, 4)
    observe(clocks, 8, 0.01)
    assert clocks.ratio(1, 8) == pytest.approx(0.01)
    assert clocks.ratio(1, 0) == pytest.approx(1)


def test_one_pass_that_takes_a_hundred_times_as_long_is_not_believed():
    clocks = Clocks()
    observe(clocks, 0, 1.0, 40)
    observe(clocks, 0, 100.0)
    assert clocks.ratio(1, 0) < 1 + SURPRISE / 20


def test_what_is_old_fades():
    clocks = Clocks()
    observe(clocks, 0, 1.0, 50)
    observe(clocks, 0, 2.0, 200)
    assert clocks.ratio(1, 0) == pytest.approx(2, rel=0.01)


def test_a_pass_that_many_share_counts_once():
    alone, shared = Clocks(), Clocks()
    for clocks in (alone, shared):
        observe(clocks, 0, 1.0, 10)
    observe(alone, 0, 2.0)
    for _ in range(8):
        shared.observe(1, 0, 0.02, 0.01, 1 / 8)
    assert shared.ratio(1, 0) == pytest.approx(alone.ratio(1, 0), rel=0.01)


def test_a_length_that_was_never_tried_is_between_its_neighbours():
    clocks = Clocks()
    observe(clocks, 0, 1.0, 10)
    observe(clocks, 8, 3.0, 10)
    assert clocks.ratio(1, 4) == pytest.approx(2.0)
    assert clocks.ratio(1, 8) > 2.9


def test_a_load_that_was_never_seen_is_like_the_nearest_one():
    clocks = Clocks()
    observe(clocks, 0, 1.0, 10, num_sessions=2)
    observe(clocks, 2, 1.5, 10, num_sessions=2)
    observe(clocks, 2, 3.0, 10, num_sessions=32)
    assert clocks.ratio(1, 2) == clocks.ratio(2, 2) == clocks.ratio(4, 2) < clocks.ratio(16, 2)


def test_a_draft_takes_a_pass_for_each_token():
    times = RoundTimes(MEASURED, (PassCost(1, 2_000_000), PassCost(9, 4_000_000)))
    assert times.draft_s(3, 1) == pytest.approx(0.006)
    assert times.draft_s(3, 9) == pytest.approx(0.012)


def test_sessions_share_passes_with_those_of_their_own_target_alone():
    target, draft = (PassCost(1, 10**7), PassCost(64, 10**8)), (PassCost(1, 10**6),)
    spread, alone = RoundTimes(target, draft), RoundTimes(target, draft)
    spread.num_targets = 4
    assert spread.num_alike(32) == alone.num_alike(8) == 8
    for k in range(3):
        assert spread.draft_s(k, 32) == alone.draft_s(k, 8)
        assert spread.verification_s(k, EXPECTED, 32) == alone.verification_s(k, EXPECTED, 8)
