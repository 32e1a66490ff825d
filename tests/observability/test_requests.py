"""Requests are timed from their arrival to their last token, and end once."""

import asyncio

import pytest

from forethought.errors import OverloadedError, TierUnavailableError
from forethought.generation import Finished, FinishReason, SpeculationStatistics, Started, Token
from forethought.sampling.types import TokenOrigin
from orchestrator.metrics.requests import RequestCounts

STARTED = Started("one", 1, 7, "m", num_cached_tokens=2)
TOKEN = Token(0, 1, "a", TokenOrigin.BONUS, None, 1.0)
FINISHED = Finished(FinishReason.STOP, 7, 4, SpeculationStatistics(), 0, 0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counts(clock):
    return RequestCounts(1000, clock)


def test_the_parts_of_a_request_add_up(counts, clock):
    with counts.request() as timer:
        assert (counts.num_waiting, counts.num_running) == (1, 0)
        timer.planned(50)
        clock.now_s = 1.0
        timer.take([STARTED])
        assert (counts.num_waiting, counts.num_running) == (0, 1)
        clock.now_s = 3.0
        timer.take([TOKEN])
        clock.now_s = 4.0
        timer.take([TOKEN, TOKEN])
        clock.now_s = 9.0
        timer.take([TOKEN, FINISHED])
    assert (counts.num_waiting, counts.num_running) == (0, 0)
    assert counts.num_ended == {"stop": 1}
    assert (counts.num_prompt_tokens, counts.num_cached_tokens) == (7, 2)
    assert counts.num_output_tokens == 4
    times = {
        name: (sum(found.counts), found.total)
        for name in ("queue", "prefill", "first_token", "decode", "inference", "whole", "per_token")
        if (found := getattr(counts, name))
    }
    assert times == {
        "queue": (1, 1.0),
        "prefill": (1, 2.0),
        "first_token": (1, 3.0),
        "decode": (1, 6.0),
        "inference": (1, 8.0),
        "whole": (1, 9.0),
        "per_token": (1, 2.0),
    }
    assert (sum(counts.between_tokens.counts), counts.between_tokens.total) == (2, 6.0)


def fail(counts, events, error):
    """A request that fails after it was given these events."""
    with counts.request() as timer:
        timer.take(events)
        raise error


@pytest.mark.parametrize(
    ("error", "end", "reason"),
    [
        (OverloadedError("full"), "error", "OVERLOADED"),
        (TierUnavailableError("away"), "error", "TIER_UNAVAILABLE"),
        (ValueError("a bug"), "error", "INTERNAL"),
        (asyncio.CancelledError(), "abort", None),
    ],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("is_running", [False, True])
def test_a_request_that_fails_ends_once(counts, error, end, reason, is_running):
    with pytest.raises(type(error)):
        fail(counts, [STARTED, TOKEN] if is_running else [], error)
    assert counts.num_ended == {end: 1}
    assert counts.num_failed == ({reason: 1} if reason else {})
    assert (counts.num_waiting, counts.num_running) == (0, 0)


def test_a_request_that_is_complete_does_not_fail_afterwards(counts):
    with pytest.raises(ValueError, match="late"):
        fail(counts, [STARTED, TOKEN, FINISHED], ValueError("late"))
    assert counts.num_ended == {"stop": 1}
    assert not counts.num_failed


def test_reasons_are_those_of_our_errors_and_not_what_a_tier_says(counts):
    error = TierUnavailableError("away")
    error.reason = "WHATEVER"
    with pytest.raises(TierUnavailableError):
        fail(counts, [], error)
    assert counts.num_failed == {"TIER_UNAVAILABLE": 1}
