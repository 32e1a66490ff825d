"""Tails of the chi-squared distribution and of its noncentral kin, in the standard library.

For whole degrees of freedom the tail is a sum of positive terms (Abramowitz and Stegun, 26.4.4 and
26.4.5), and the noncentral tail a mixture of such sums with the weights of a Poisson distribution
(26.4.25). Nothing cancels, so that a probability of 1e-200 is as exact as one of 0.5.
"""

import math
from collections.abc import Callable
from functools import cache

_NEGLIGIBLE = 1e-14
_BISECTIONS = 60  # leave nothing between two neighbouring numbers


def survival(x: float, df: int) -> float:
    """Probability that a chi-squared variable of `df` >= 1 degrees of freedom exceeds `x` >= 0."""
    odd = df % 2
    base = math.erfc(math.sqrt(x / 2)) if odd else 0.0
    return min(1.0, base + sum(_gain(x, fewer) for fewer in range(odd, df, 2)))


def critical_value(alpha: float, df: int) -> float:
    """What a chi-squared variable exceeds with probability `alpha`, in (0, 1)."""
    return _solve(lambda x: survival(x, df) < alpha)


def noncentral_survival(x: float, df: int, noncentrality: float) -> float:
    """Probability that a noncentral chi-squared variable exceeds `x` >= 0."""
    mean = noncentrality / 2
    tail, total, index = survival(x, df), 0.0, 0
    while (weight := _power_over_factorial(mean, index)) > _NEGLIGIBLE or index < mean:
        total += weight * tail
        tail += _gain(x, df + 2 * index)
        index += 1
    return min(1.0, total)


@cache  # the tests of a probe have few different degrees of freedom
def detectable_noncentrality(alpha: float, df: int, power: float) -> float:
    """The noncentrality at which a test at level `alpha` rejects with probability `power`, which
    is above `alpha` and below 1."""
    threshold = critical_value(alpha, df)
    return _solve(lambda value: noncentral_survival(threshold, df, value) > power)


def _gain(x: float, df: int) -> float:
    """survival(x, df + 2) - survival(x, df)."""
    return _power_over_factorial(x / 2, df / 2)


def _power_over_factorial(y: float, a: float) -> float:
    """y^a exp(-y) / Gamma(a + 1): for whole `a` the Poisson probability of `a` at the mean `y`."""
    if y == 0:
        return float(a == 0)
    return math.exp(a * math.log(y) - y - math.lgamma(a + 1))


def _solve(is_beyond: Callable[[float], bool]) -> float:
    """The number from which on `is_beyond`, which is false at 0."""
    low, high = 0.0, 1.0
    while not is_beyond(high):
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return high
