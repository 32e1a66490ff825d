"""Whether speculation pays at a load, by the time that rounds took."""

import pytest

from orchestrator.policy.paces import Level, Levels, Pace

TOKENS = [1.0, 1.5, 2.0]


def as_promised(k: int) -> float:
    """What rounds of each K take by their costs."""
    return [1.0, 1.2, 1.6][k]


def observe(pace: Pace, k: int, time: float, times: int) -> None:
    for _ in range(times):
        pace.observe(k, time, 1.0)


def test_a_pace_is_tokens_over_the_time_of_plain_ones_and_what_is_old_fades():
    pace = Pace()
    observe(pace, 2, 1.6, 100)
    assert pace.speed(TOKENS) == pytest.approx(1.25)
    observe(pace, 2, 4.0, 500)
    assert pace.speed(TOKENS) == pytest.approx(0.5, rel=0.01)
    assert pace.num_rounds == pytest.approx(48, rel=0.02)


def test_tokens_are_those_that_are_expected_now_of_the_rounds_that_were():
    pace = Pace()
    observe(pace, 1, 1.0, 10)
    pace.observe(2, 2.0, 10.0)
    assert pace.speed([1.0, 1.0, 1.0]) == pytest.approx(1 / 1.5, rel=0.2)
    assert pace.speed([1.0, 3.0, 6.0]) == pytest.approx(3.0)


def test_of_a_level_nothing_is_said_before_enough_was_seen_of_both():
    level = Level()
    observe(level.plain, 0, 1.0, 50)
    observe(level.speculative, 2, 1.0, 3)
    assert level.compare(TOKENS, as_promised) is None
    assert level.gain is None
    observe(level.speculative, 2, 1.0, 2)
    assert level.compare(TOKENS, as_promised) == pytest.approx(2)

    little_plain = Level()
    observe(little_plain.plain, 0, 1.0, 7)
    observe(little_plain.speculative, 2, 1.0, 50)
    assert not little_plain.is_plain_known
    assert little_plain.compare(TOKENS, as_promised) is None


def test_plain_rounds_that_are_slower_than_nominal_make_the_gain_larger():
    level = Level()
    observe(level.plain, 0, 1.25, 50)
    observe(level.speculative, 2, 1.6, 50)
    assert level.compare(TOKENS, as_promised) == pytest.approx(1.25 / 0.8)


@pytest.mark.parametrize("tokens", [TOKENS, [1.0, 1.1, 1.2]])
def test_what_was_kept_of_a_promise_is_the_machines_and_taken_to_be_kept_of_another_one(tokens):
    """Whatever the text makes of drafts."""
    levels = Levels()
    level = levels.at(1)
    observe(level.plain, 0, 1.0, 50)
    observe(level.speculative, 2, 2.0, 50)
    level.compare(tokens, as_promised)
    assert level.kept == pytest.approx(0.8)
    assert levels.known_gain(1, promise=2.0) == pytest.approx(1.6)


def test_costs_that_have_learned_what_rounds_take_promise_no_more_than_is_kept():
    level = Level()
    observe(level.plain, 0, 1.0, 50)
    observe(level.speculative, 2, 2.0, 50)
    level.compare(TOKENS, lambda k: [1.0, 1.5, 2.0][k])
    assert level.kept == pytest.approx(1)


def test_a_new_attempt_is_not_judged_by_the_last_one():
    level = Level()
    observe(level.plain, 0, 1.0, 50)
    observe(level.speculative, 2, 4.0, 50)
    assert level.compare(TOKENS, as_promised) == pytest.approx(0.5)
    level.begin()
    assert level.compare(TOKENS, as_promised) is None
    assert level.gain == pytest.approx(0.5)


def test_loads_from_one_to_its_double_are_alike():
    levels = Levels()
    alike = [(1,), (2,), (3, 4), (5, 6, 7, 8), (9, 16), (17, 32)]
    found = [{id(levels.at(load)) for load in loads} for loads in alike]
    assert all(len(each) == 1 for each in found)
    assert len(set.union(*found)) == len(alike)


def test_an_attempt_at_a_greater_load_is_taken_to_lose_more():
    levels = Levels()
    losses = [levels.at(load).loss_s for load in (1, 4, 32)]
    assert losses == sorted(losses)
    assert losses[0] < losses[-1]


@pytest.mark.parametrize(
    ("seen_at", "gain", "asked_at", "says"),
    [
        (8, 1.3, 1, 1.3),  # a busier deployment has less to spare
        (8, 0.8, 1, None),
        (1, 0.8, 8, 0.8),
        (1, 1.3, 8, None),
    ],
)
def test_a_load_says_something_of_another_one_in_one_direction_only(
    seen_at: int, gain: float, asked_at: int, says: float | None
):
    levels = Levels()
    levels.at(seen_at).gain = gain
    assert levels.known_gain(asked_at, promise=1.5) == says


def test_where_nothing_was_seen_nothing_is_said():
    assert Levels().known_gain(4, promise=2.0) is None
