"""Tails against scipy's."""

import pytest
from scipy.stats import chi2, ncx2

from forethought.probe.chi_squared import (
    critical_value,
    detectable_noncentrality,
    noncentral_survival,
    survival,
)

DEGREES = [1, 2, 3, 10, 77, 400]


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("x", [0.0, 0.3, 5.0, 40.0, 300.0, 1200.0])
def test_the_tail_is_scipys_however_small(x, df):
    assert survival(x, df) == pytest.approx(chi2.sf(x, df), rel=1e-10, abs=1e-300)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("alpha", [0.3, 1e-2, 1e-4, 1e-9])
def test_the_critical_value_is_exceeded_with_probability_alpha(alpha, df):
    assert critical_value(alpha, df) == pytest.approx(chi2.isf(alpha, df), rel=1e-10)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("x", [0.0, 5.0, 40.0, 300.0])
@pytest.mark.parametrize("noncentrality", [0.0, 0.5, 20.0, 200.0])
def test_the_noncentral_tail_is_scipys(x, df, noncentrality):
    assert noncentral_survival(x, df, noncentrality) == pytest.approx(
        ncx2.sf(x, df, noncentrality), rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("power", [0.5, 0.9])
def test_at_the_detectable_noncentrality_a_test_has_the_power_asked_for(power, df):
    noncentrality = detectable_noncentrality(1e-3, df, power)
    assert ncx2.sf(chi2.isf(1e-3, df), df, noncentrality) == pytest.approx(power, abs=1e-9)
