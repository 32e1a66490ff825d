"""What is measured and remembered fades."""

import pytest

from forethought.store.blocks.known_blocks import KnownBlocks
from forethought.store.blocks.transfer_rate import TransferRate
from forethought.store.server.breaker import Breaker, BreakerSettings, BreakerState


class Clock:
    """Time that a test passes by itself."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_rate_is_found_beyond_the_latency():
    rate = TransferRate()
    rate.answered(0.01)
    rate.transferred(10**6, 0.11)
    assert rate.latency_s == pytest.approx(0.01)
    assert rate.bytes_per_s == pytest.approx(10**7)
    assert rate.seconds_for(5 * 10**6) == pytest.approx(0.51)


def test_a_transfer_as_short_as_the_latency_has_a_rate():
    rate = TransferRate()
    rate.answered(0.01)
    rate.transferred(1000, 0.01)
    assert rate.bytes_per_s == pytest.approx(200_000)


def test_a_store_that_became_slow_shows_within_a_few_pieces_and_recovers():
    rate = TransferRate()
    for _ in range(100):
        rate.transferred(10**6, 0.001)
    for _ in range(3):
        rate.transferred(10**6, 0.1)
    assert rate.bytes_per_s < 2 * 10**7
    for _ in range(20):
        rate.transferred(10**6, 0.001)
    assert rate.bytes_per_s > 8 * 10**8


def test_old_measurements_say_nothing():
    clock = Clock()
    rate = TransferRate(forgotten_after_s=30, clock=clock)
    assert rate.seconds_for(1) is None
    rate.answered(0.01)
    rate.transferred(10**6, 1.0)
    clock.now += 29
    assert rate.bytes_per_s is not None
    clock.now += 2
    assert rate.bytes_per_s is rate.latency_s is rate.seconds_for(1) is None
    rate.transferred(10**6, 0.5)
    assert rate.bytes_per_s == pytest.approx(2 * 10**6)


def test_known_blocks_are_bounded_and_believed_for_a_while():
    clock = Clock()
    known = KnownBlocks(max_blocks=2, believed_for_s=10, clock=clock)
    known.add(b"a")
    known.add(b"b")
    known.add(b"a")
    known.add(b"c")
    assert [name in known for name in (b"a", b"b", b"c")] == [True, False, True]
    assert len(known) == 2
    known.discard(b"c")
    known.discard(b"never there")
    assert b"c" not in known
    clock.now += 10
    assert b"a" not in known


def a_breaker() -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(BreakerSettings(3, first_pause_s=1, max_pause_s=5), clock), clock


def fail(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        assert breaker.admits()
        breaker.failed()


def test_a_breaker_opens_after_failures_in_a_row():
    breaker, _ = a_breaker()
    fail(breaker, 2)
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 3)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.admits()


def test_after_its_pause_one_probe_goes_through_and_decides():
    breaker, clock = a_breaker()
    fail(breaker, 3)
    clock.now += 0.9
    assert not breaker.admits()
    assert breaker.pause_left_s == pytest.approx(0.1)
    clock.now += 0.1
    assert breaker.admits()
    assert breaker.state is BreakerState.HALF_OPEN
    assert not breaker.admits()
    breaker.succeeded()
    assert breaker.state is BreakerState.CLOSED
    assert breaker.admits()


def test_pauses_double_up_to_a_limit_and_begin_anew_after_a_success():
    breaker, clock = a_breaker()
    fail(breaker, 3)
    pauses = []
    for _ in range(5):
        pauses.append(breaker.pause_left_s)
        clock.now += breaker.pause_left_s
        fail(breaker)
    assert pauses == pytest.approx([1, 2, 4, 5, 5])
    clock.now += 5
    assert breaker.admits()
    breaker.succeeded()
    fail(breaker, 3)
    assert breaker.pause_left_s == pytest.approx(1)


def test_a_probe_that_was_cancelled_leaves_the_next_to_decide():
    breaker, clock = a_breaker()
    fail(breaker, 3)
    clock.now += 1
    assert breaker.admits()
    breaker.given_up()
    assert breaker.admits()
    assert not breaker.admits()


def test_calls_that_were_under_way_make_an_open_breaker_no_worse():
    breaker, _ = a_breaker()
    for _ in range(8):
        assert breaker.admits()
    for _ in range(8):
        breaker.failed()
    assert breaker.pause_left_s == pytest.approx(1)
