"""What sessions have a use for of the draft tier, whatever it gives them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from forethought.tier import RoundTimings
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session
from orchestrator.policy.choice import AdaptivePolicy, Experience
from orchestrator.policy.demand import DemandMeter
from orchestrator.policy.governor import Governor
from tests.orchestrator.simulator import (
    MAX_K,
    Run,
    Seat,
    World,
    failed_round,
    measured,
    new_session,
    take_turn,
)


def target_pass_s(num_tokens: int) -> float:
    return max(0.02, 0.0002 * num_tokens)


def draft_step_s(num_sessions: int) -> float:
    return 0.002 + 0.0001 * num_sessions


@dataclass
class Trial:
    """Sessions in simulated time, and what the meter says of them."""

    world: World
    num_sessions: int = 2
    run: Run = field(default_factory=Run)
    rest_s: float = 0.0  # of the clock, without rounds

    def __post_init__(self) -> None:
        costs = measured(target_pass_s), measured(draft_step_s)
        self.experience = Experience(Governor(MAX_K, *costs))
        self.meter = DemandMeter(
            self.experience.governor, clock=lambda: self.run.seconds + self.rest_s
        )
        self.seats = [
            Seat(_Metered(self.experience, new_session(index), self.meter), new_session(index))
            for index in range(self.num_sessions)
        ]
        for _ in self.seats:
            self.meter.begin()

    def play(self, seconds: float) -> tuple[float, float]:
        """Some time, and the engines that were wanted in it, and not to be had."""
        before, began_s = self.meter.demand, self.run.seconds
        while self.run.seconds < began_s + seconds:
            take_turn(self.world, self.seats, self.run)
        took_ns = (self.run.seconds - began_s) * 1e9
        after = self.meter.demand
        return (
            (after.wanted_ns - before.wanted_ns) / took_ns,
            (after.unserved_ns - before.unserved_ns) / took_ns,
        )

    def play_until(self, condition: Callable[[], bool], within_s: float = 120.0) -> None:
        """Plays until something is so."""
        end_s = self.run.seconds + within_s
        while not condition():
            assert self.run.seconds < end_s
            self.play(1)

    @property
    def mean_k(self) -> float:
        """Of the last rounds."""
        return sum(self.run.ks[-50:]) / 50


class _Metered(AdaptivePolicy):
    def __init__(self, experience: Experience, session: Session, meter: DemandMeter) -> None:
        super().__init__(experience, session)
        self._meter = meter

    def learn(self, judged: Round) -> None:
        super().learn(judged)
        self._meter.observe(judged)


def good_world() -> World:
    return World(target_pass_s, draft_step_s, acceptance=0.8)


def test_a_tier_that_keeps_up_leaves_nothing_to_wish_for():
    trial = Trial(good_world())
    trial.play(3)
    wanted, unserved = trial.play(5)
    assert 0.1 < wanted < 0.8  # K passes of the draft beside one of the target
    assert unserved < 0.2 * wanted


def test_demand_stays_while_a_starved_tier_makes_the_policy_choose_plain_decoding():
    trial = Trial(good_world())
    trial.play(3)
    wanted = trial.play(3)[0]
    trial.world.draft_step_s = lambda _: 0.5  # others have taken the tier
    trial.play_until(lambda: trial.mean_k < 0.1)
    still_wanted, unserved = trial.play(3)
    assert still_wanted == pytest.approx(wanted, rel=0.4)
    assert unserved > 0.8 * still_wanted
    trial.world.draft_step_s = draft_step_s
    trial.play_until(lambda: trial.mean_k > 2)
    trial.play_until(lambda: trial.play(1)[1] < 0.2 * wanted)


def test_a_useless_draft_is_not_wanted():
    trial = Trial(World(target_pass_s, draft_step_s, acceptance=0.02))
    trial.play_until(lambda: trial.play(2) == (0.0, 0.0))


def test_drafts_that_costs_promise_and_clocks_do_not_are_not_wanted():
    trial = Trial(World(target_pass_s, draft_step_s, acceptance=0.8, contention=5.0))
    # An attempt takes one round, and pays for it for half a minute: a few of them tell.
    trial.play_until(lambda: trial.play(2) == (0.0, 0.0), within_s=400)
    assert trial.mean_k == 0


def test_where_no_draft_was_ever_seen_one_replica_is_wanted_until_one_was():
    meter = Trial(good_world()).meter
    for _ in range(10):
        meter.observe(replace(failed_round(new_session(), NO_TIMINGS), speculation_ns=10**7))
    assert 0 < meter.demand.wanted_ns == meter.demand.unserved_ns < 0.1 * 10**8


def test_a_useless_draft_is_tried_again_after_an_hour():
    trial = Trial(World(target_pass_s, draft_step_s, acceptance=0.02))
    trial.play_until(lambda: trial.play(2) == (0.0, 0.0))
    trial.rest_s += 3601
    before = trial.meter.demand
    trial.meter.observe(plain_round(new_session()))
    assert trial.meter.demand.wanted_ns > before.wanted_ns
    trial.play_until(lambda: trial.play(2) == (0.0, 0.0))  # it is there, and useless as before


def test_who_asks_for_drafts_gets_a_tier_whether_they_pay_or_not():
    trial = Trial(World(target_pass_s, draft_step_s, acceptance=0.02))
    trial.play_until(lambda: trial.play(2) == (0.0, 0.0))
    before = trial.meter.demand
    trial.meter.observe(plain_round(new_session()), fixed_k=4)
    trial.meter.observe(plain_round(new_session()), fixed_k=0)
    after = trial.meter.demand
    assert after.wanted_ns - before.wanted_ns > 0.05 * 2e7
    wanted_ns = after.wanted_ns - before.wanted_ns
    assert after.unserved_ns - before.unserved_ns == pytest.approx(wanted_ns, abs=2)


def test_what_this_process_looks_up_is_asked_of_nobody():
    governor = Governor(MAX_K, measured(target_pass_s), drafts_are_free=True)
    meter = DemandMeter(governor)
    meter.observe(plain_round(new_session()))
    assert meter.demand.wanted_ns == 0
    assert meter.num_rounds == 1


NO_TIMINGS = RoundTimings()


def plain_round(session: Session) -> Round:
    judged = failed_round(session, NO_TIMINGS)
    return replace(judged, ask=Ask(0), drafted=Drafted(), verification_ns=2 * 10**7)
