"""From samples to the numbers of a table."""

import pytest

from forethought.bench.statistics import (
    describe_burst,
    median_ratio,
    percentile,
    summarise,
)
from tests.bench.samples import burst, sample, speculation


def test_percentiles_interpolate_between_neighbours():
    assert percentile([10, 20, 30, 40], 50) == 25
    assert percentile([4, 1, 3, 2, 5], 50) == 3
    assert percentile(list(range(101)), 99) == 99
    assert percentile([7], 99) == 7


def test_time_per_output_token_leaves_the_first_token_out():
    assert sample(first_ms=100, last_ms=500, num_tokens=5).time_per_output_token_s == pytest.approx(
        0.1
    )


def test_one_token_has_no_time_per_output_token():
    assert sample(num_tokens=1).time_per_output_token_s is None
    assert describe_burst(burst(samples=[sample(num_tokens=1)])).tpot_p50_ms is None


def test_tokens_a_second_are_all_tokens_over_the_wall_clock():
    measured = describe_burst(burst(wall_s=2, samples=[sample(num_tokens=5)] * 4))
    assert measured.tokens_per_s == 10
    assert measured.tokens_per_request == 5


def test_acceptance_weighs_requests_by_what_they_drafted():
    parts = [speculation(10, 30, 30), speculation(10, 10, 0, failures=2)]
    measured = describe_burst(burst(samples=[sample(speculation=part) for part in parts]))
    assert measured.acceptance_rate == 0.75
    assert measured.mean_acceptance_length == 2.5
    assert measured.num_draft_failures == 2


def test_what_was_not_drafted_has_no_acceptance_rate():
    measured = describe_burst(burst(samples=[sample(speculation=speculation(5, 0, 0))]))
    assert measured.acceptance_rate is None
    assert measured.mean_acceptance_length == 1


def test_the_share_of_drafted_rounds_is_over_all_requests():
    parts = [speculation(10, 30, 30, drafted_rounds=9), speculation(30, 2, 0, drafted_rounds=1)]
    measured = describe_burst(burst(samples=[sample(speculation=part) for part in parts]))
    assert measured.drafted_share == 0.25


def test_a_server_without_statistics_of_speculation_has_none():
    assert describe_burst(burst()).mean_acceptance_length is None
    assert describe_burst(burst()).drafted_share is None


def test_a_disturbed_repeat_does_not_show_in_the_median():
    (row,) = summarise([burst(wall_s=1), burst(wall_s=50), burst(wall_s=1.25)])
    assert row.median.tokens_per_s == 4
    assert [repeat.tokens_per_s for repeat in row.repeats] == [5, 0.1, 4]


def test_rows_go_by_concurrency_and_then_in_the_order_of_the_arms():
    rows = summarise(
        [burst("b", 8), burst("a", 8), burst("a", 1), burst("b", 1), burst("b", 8), burst("a", 8)]
    )
    assert [(row.concurrency, row.arm) for row in rows] == [
        (1, "b"),
        (1, "a"),
        (8, "b"),
        (8, "a"),
    ]


def test_ratios_compare_repeats_that_ran_side_by_side():
    # The machine is half as fast in the second repeat: both arms lose, the ratio stays.
    fast, base = summarise(
        [
            *(burst("fast", wall_s=1), burst("base", wall_s=2)),
            *(burst("fast", wall_s=2), burst("base", wall_s=4)),
        ]
    )
    assert median_ratio(fast, base) == 2
