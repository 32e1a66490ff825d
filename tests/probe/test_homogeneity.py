"""The test of two samples: its table, its p-value, its level and its power."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from forethought.probe.homogeneity import compare, p_value_of_share

NUM_RUNS = 2_000
STANDARD_ERRORS = 4
"""Chance moves a share by more than this once in 30,000 times. The seeds are fixed."""


def sample(counts):
    return Counter({(index,): int(count) for index, count in enumerate(counts) if count})


def cells_of(comparison):
    return {cell.outcomes: (cell.first, cell.second) for cell in comparison.cells}


def standard_error(share):
    return (share * (1 - share) / NUM_RUNS) ** 0.5


def rejection_rate(p, q, num_samples, alpha, seed):
    """The share of runs that reject, of samples drawn from p and from q."""
    generator = np.random.default_rng(seed)
    firsts = generator.multinomial(num_samples, p, NUM_RUNS)
    seconds = generator.multinomial(num_samples, q, NUM_RUNS)
    return np.mean(
        [
            compare(sample(first), sample(second)).p_value < alpha
            for first, second in zip(firsts, seconds, strict=True)
        ]
    )


def test_the_p_value_is_that_of_scipys_contingency_table():
    first, second = (50, 30, 15, 5), (35, 40, 10, 15)
    expected = chi2_contingency([first, second], correction=False).pvalue
    assert compare(sample(first), sample(second)).p_value == pytest.approx(expected)


def test_rare_outcomes_are_counted_together_and_their_share_is_told():
    comparison = compare(sample((80, 5, 3, 7, 5)), sample((75, 5, 6, 8, 6)))
    assert cells_of(comparison) == {
        ((0,),): (80, 75),
        ((1,),): (5, 5),
        ((3,),): (7, 8),
        ((4,),): (5, 6),
        ((2,),): (3, 6),
    }
    comparison = compare(sample((90, 4, 6)), sample((93, 5, 2)))
    assert cells_of(comparison) == {((0,),): (90, 93), ((1,), (2,)): (10, 7)}
    assert comparison.pooled_share == 17 / 200


def test_the_cells_that_differ_most_come_first():
    comparison = compare(sample((50, 30, 20)), sample((45, 15, 40)))
    assert [cell.outcomes for cell in comparison.cells] == [((2,),), ((1,),), ((0,),)]


def test_two_samples_that_are_the_same_have_p_value_1():
    assert compare(sample((50, 50)), sample((50, 50))).p_value == 1


def test_an_outcome_that_never_varies_is_one_cell_and_no_difference():
    comparison = compare(sample((100,)), sample((100,)))
    assert (comparison.df, comparison.p_value, comparison.pooled_share) == (0, 1, 0)


def test_samples_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match="100 and 99 samples"):
        compare(sample((100,)), sample((99,)))
    with pytest.raises(ValueError, match="0 and 0 samples"):
        compare(sample(()), sample(()))


def test_one_outcome_against_all_others_is_the_test_of_a_table_of_four():
    expected = chi2_contingency([[30, 70], [45, 55]], correction=False).pvalue
    assert p_value_of_share(30, 45, 100) == pytest.approx(expected)
    assert p_value_of_share(100, 100, 100) == 1


def zipf(num_outcomes):
    weights = 1 / np.arange(1, num_outcomes + 1)
    return weights / weights.sum()


DISTRIBUTIONS = {
    "a coin": np.array([0.5, 0.5]),
    "nearly always the same": np.array([0.97, 0.03]),
    "a die of 20": np.full(20, 0.05),
    "many rare ones": zipf(60),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("num_samples", [50, 300])
def test_equal_distributions_are_rejected_no_more_often_than_alpha(name, num_samples):
    p, alpha = DISTRIBUTIONS[name], 0.05
    rate = rejection_rate(p, p, num_samples, alpha, seed=1)
    assert rate < alpha + STANDARD_ERRORS * standard_error(alpha)


def spread(p, bias):
    """p with a total variation of `bias`, up and down in turns, each in proportion: the bias of
    this size that is hardest to see."""
    up = np.arange(len(p)) % 2 == 0
    return p * np.where(up, 1 + bias / p[up].sum(), 1 - bias / p[~up].sum())


def test_a_bias_spread_over_everything_is_found_as_often_as_stated():
    # Without rare outcomes the statement is tight: neither less power, nor much more.
    p, power = DISTRIBUTIONS["a die of 20"], 0.9
    bias = compare(sample(p * 1000), sample(p * 1000)).detectable_bias(0.01, power)
    rate = rejection_rate(p, spread(p, bias), 1000, 0.01, seed=2)
    assert power - STANDARD_ERRORS * standard_error(power) < rate < 0.93


def test_any_other_bias_is_found_at_least_as_often_as_stated():
    p, power = DISTRIBUTIONS["many rare ones"], 0.9
    drawn = np.random.default_rng(3).multinomial(1000, p)
    comparison = compare(sample(drawn), sample(drawn))
    assert comparison.pooled_share > 0
    bias = comparison.detectable_bias(0.01, power)
    concentrated = p.copy()
    concentrated[0] -= bias
    concentrated[1] += bias
    for q in (spread(p, bias), concentrated):
        assert rejection_rate(p, q, 1000, 0.01, seed=4) > power


def test_four_times_the_samples_find_half_the_bias():
    few, many = (compare(sample((n, n)), sample((n, n))) for n in (500, 2000))
    assert few.detectable_bias(0.01, 0.9) == pytest.approx(2 * many.detectable_bias(0.01, 0.9))


def test_where_all_is_rare_no_bias_is_promised_to_be_found():
    nothing_twice = sample(np.ones(100))
    assert compare(nothing_twice, nothing_twice).detectable_bias(0.01, 0.9) == 1
