"""A day in short: both tiers follow their own signals, and neither oscillates."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby, pairwise
from math import isnan
from statistics import mean

import pytest

from tests.autoscaler.simulation import Moment, Scenario, Simulation, diurnal

DAY_S = 1500.0
USELESS_S = 300.0, 2300.0
"""When texts are such that no draft is accepted: for as long as it takes to be sure of that, with a
hundredth of the time for attempts."""
REMEMBERED_S, END_S = 600.0, 3200.0
DAY = Scenario(
    DAY_S,
    diurnal(DAY_S, 0.05, 0.7),
    lambda _: 0.75,
    pass_s=lambda n: max(0.5, 0.5 * n / 96),
    draft_step_s=lambda n: 0.04 + 0.002 * n,
    sessions_a_target=8,
    start_s=20.0,
    down_after_s=200.0,
)


@pytest.fixture(scope="module")
def day() -> list[Moment]:
    return Simulation(DAY).play()


@pytest.fixture(scope="module", params=[1, 2])
def texts_that_change(request: pytest.FixtureRequest) -> list[Moment]:
    scenario = replace(
        DAY,
        seconds=END_S,
        arrivals_per_s=lambda _: 0.08,
        acceptance=lambda now_s: 0.02 if USELESS_S[0] < now_s < USELESS_S[1] else 0.75,
        sessions_a_target=2,
        remembered_s=REMEMBERED_S,
    )
    return Simulation(scenario, seed=request.param).play()


def between(day: list[Moment], begin_s: float, end_s: float) -> list[Moment]:
    return [each for each in day if begin_s < each.now_s <= end_s]


def turns(counts: Iterable[int]) -> int:
    """How often a number of replicas changes its direction."""
    steps = [count for count, _ in groupby(counts)]
    rises = [after > before for before, after in pairwise(steps)]
    return sum(before != after for before, after in pairwise(rises))


def test_targets_follow_the_load_up_and_down_once(day):
    noon = between(day, 0.4 * DAY_S, 0.6 * DAY_S)
    assert max(each.targets for each in noon) >= 3
    assert day[-1].targets < max(each.targets for each in noon)
    assert turns(each.targets for each in day) <= 3


def test_drafts_go_when_they_do_not_pay_and_targets_stay(texts_that_change):
    useless = between(texts_that_change, *USELESS_S)
    assert useless[0].drafts >= 1
    assert min(each.drafts for each in useless) == 0
    assert min(each.targets for each in useless) >= 2
    drafted = [each.mean_k for each in useless[len(useless) // 10 :] if not isnan(each.mean_k)]
    assert mean(drafted) < 0.3


def test_drafts_return_from_zero_when_they_pay_again(texts_that_change):
    """At the latest when what was learned is forgotten."""
    end = between(texts_that_change, USELESS_S[1] + REMEMBERED_S + 100, END_S)
    assert all(each.drafts >= 1 for each in end)
    assert mean(each.mean_k for each in end if not isnan(each.mean_k)) > 1.5


def test_replicas_of_drafts_do_not_oscillate(day):
    assert turns(each.drafts for each in day) <= 4


def test_nobody_waits_for_a_target_for_long(day):
    waits = [each.num_waiting > 0 for each in day]
    longest = max((len(list(run)) for waiting, run in groupby(waits) if waiting), default=0)
    assert longest * 5 < 100
