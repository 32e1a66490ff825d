"""More replicas at once, fewer after a while, and never for long what a moment asks for."""

import pytest

from autoscaler.steady import Limits, Steady


@pytest.fixture
def steady() -> Steady:
    """One that has looked on for long enough."""
    steady = Steady(Limits(0, 10), 300.0)
    steady.update(-1000.0, 0.0, 0)
    return steady


def test_more_are_wanted_at_once(steady):
    assert steady.update(0.0, 0.3, 1) == 1
    assert steady.update(5.0, 4.2, 1) == 5


def test_fewer_are_wanted_when_they_have_done_for_the_whole_time(steady):
    steady.update(0.0, 5.0, 5)
    assert steady.update(299.0, 1.0, 5) == 5
    assert steady.update(301.0, 1.0, 5) == 1


def test_a_dip_is_not_followed(steady):
    for now in range(0, 3000, 5):
        wanted = steady.update(float(now), 2.0 if now % 50 else 6.0, 6)
        assert wanted == 6


def test_what_is_pending_is_not_asked_for_again(steady):
    assert [steady.update(5.0 * look, 3.0, 1) for look in range(6)] == [3] * 6


def test_limits_hold(steady):
    assert steady.update(0.0, 99.0, 1) == 10
    least = Steady(Limits(2, 10), 300.0)
    assert least.update(0.0, 0.0, 2) == 2


def test_noise_about_a_whole_number_is_none(steady):
    assert steady.update(0.0, 3.05, 3) == 3
    assert steady.update(5.0, 0.001, 3) == 3
    assert steady.update(400.0, 0.001, 3) == 1


def test_who_has_just_begun_to_look_takes_nothing_away():
    steady = Steady(Limits(0, 10), 300.0)
    assert steady.update(0.0, 0.0, 4) == 4
    assert steady.update(299.0, 0.0, 4) == 4
    assert steady.update(301.0, 0.0, 4) == 0


def test_without_a_wait_needs_are_followed_at_once():
    steady = Steady(Limits(0, 10), 0.0)
    assert [steady.update(float(now), needed, 0) for now, needed in enumerate((3.0, 1.0, 7.0))] == [
        3,
        1,
        7,
    ]
