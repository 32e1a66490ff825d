"""A day in short: both tiers follow their own signals, and neither oscillates."""

from collections.abc import Iterable
from itertools import groupby, pairwise
from math import isnan
from statistics import mean

import pytest

from tests.autoscaler.simulation import Moment, Scenario, Simulation, diurnal

DAY_S = 1500.0
USELESS_S = 600.0, 1050.0
"""When texts are such that no draft is accepted."""


@pytest.fixture(scope="module")
def day() -> list[Moment]:
    def acceptance(now_s: float) -> float:
        return 0.02 if USELESS_S[0] < now_s < USELESS_S[1] else 0.75

    scenario = Scenario(
        DAY_S,
        diurnal(DAY_S, 0.05, 0.7),
        acceptance,
        pass_s=lambda n: max(0.5, 0.5 * n / 96),
        draft_step_s=lambda n: 0.04 + 0.002 * n,
        sessions_a_target=8,
        start_s=20.0,
        down_after_s=200.0,
        remembered_s=200.0,
    )
    return Simulation(scenario).play()


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


def test_drafts_go_when_they_do_not_pay_and_targets_stay(day):
    useless = between(day, *USELESS_S)
    assert useless[-1].drafts == 0
    assert min(each.targets for each in useless) >= 2


def test_drafts_return_from_zero_when_they_pay_again(day):
    evening = between(day, USELESS_S[1] + 250, USELESS_S[1] + 400)
    assert all(each.drafts >= 1 for each in evening)
    assert mean(each.mean_k for each in evening if not isnan(each.mean_k)) > 2


def test_replicas_of_drafts_do_not_oscillate(day):
    assert turns(each.drafts for each in day) <= 4


def test_nobody_waits_for_a_target_for_long(day):
    waits = [each.num_waiting > 0 for each in day]
    longest = max((len(list(run)) for waiting, run in groupby(waits) if waiting), default=0)
    assert longest * 5 < 100
