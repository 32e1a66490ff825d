"""What each signal asks for, and that no tier answers to another one's."""

from dataclasses import replace

import pytest

from autoscaler.answers import Answers, DraftDemandRate, History, TierPace
from autoscaler.needs import Goals, draft_need, orchestrator_need, target_need
from tests.autoscaler.answers import SECOND, orchestrator, replica

IDLE = TierPace(0.0, 0.0, 0, 0)
NO_DEMAND = DraftDemandRate(0.0, 0.0, 0.0)
GOALS = Goals()


def test_an_idle_target_needs_next_to_nothing():
    assert target_need({"a": replica()}, IDLE, NO_DEMAND, GOALS).replicas == 0


def test_waiting_tokens_ask_for_as_many_targets_as_compute_them_in_time():
    need = target_need(
        {"a": replica(num_blocks=0)}, replace(IDLE, num_standing_tokens=24_000), None, GOALS
    )
    assert need.signal == "waiting tokens"
    assert need.replicas == pytest.approx(24_000 / 4000 / 2)


def test_waiting_tokens_are_computed_as_fast_as_was_seen():
    answers = {"a": replica(num_blocks=0)}
    need = target_need(answers, TierPace(1.0, 12_000.0, 0, 24_000), None, GOALS)
    assert need.replicas == pytest.approx(1.0)
    slow = target_need(
        answers, TierPace(1.0, 100.0, 0, 24_000), None, GOALS
    )  # small passes, not slow ones
    assert slow.replicas == pytest.approx(3.0)


def test_what_waits_while_replicas_are_on_their_way_is_theirs():
    answers, pace = {"a": replica(num_blocks=0)}, replace(IDLE, num_standing_tokens=80_000)
    assert target_need(answers, pace, None, GOALS).replicas == pytest.approx(10)
    assert target_need(answers, pace, None, GOALS, num_pending=3).replicas == 4


def test_sessions_that_wait_for_memory_count_as_if_they_had_it():
    answers = {"a": replica(num_held_blocks=100)}
    need = target_need(answers, replace(IDLE, num_standing_tokens=1600), NO_DEMAND, GOALS)
    assert need.signal == "keys and values"
    assert need.replicas == pytest.approx(2 / 0.8)


def test_running_sessions_count_against_what_a_pass_holds_with_their_drafts():
    answers = {"a": replica(80), "b": replica(80)}
    plain = target_need(answers, IDLE, NO_DEMAND, GOALS)
    assert (plain.signal, plain.replicas) == ("tokens a pass", pytest.approx(1.04, rel=0.02))
    drafting = target_need(answers, IDLE, DraftDemandRate(1.0, 0.0, 3.0), GOALS)
    assert drafting.replicas == pytest.approx(4 * plain.replicas)


def test_a_refused_session_asks_for_one_target_more_than_serve():
    need = target_need({"a": replica(), "b": replica()}, TierPace(0, 0, 1, 0), NO_DEMAND, GOALS)
    assert (need.signal, need.replicas) == ("refused sessions", 3)


def test_what_waits_for_targets_is_nothing_to_the_draft_tier():
    waiting = {"a": replica(50, num_held_blocks=100)}
    pace = replace(IDLE, num_standing_tokens=10**6)
    assert target_need(waiting, pace, NO_DEMAND, GOALS).replicas > 10
    need = draft_need(
        {"d": replica(50)}, TierPace(0.3, 100, 0, 0), DraftDemandRate(0.3, 0.0, 2.0), GOALS
    )
    assert need.replicas == 1


def test_engines_at_work_and_drafts_that_were_late_ask_for_drafts():
    need = draft_need(
        {"d": replica()}, TierPace(0.9, 100, 0, 0), DraftDemandRate(2.0, 1.2, 2.0), GOALS
    )
    assert need.signal == "drafts wanted"
    assert need.replicas == pytest.approx(3.0)


def test_a_starved_tier_without_work_is_asked_for_all_that_is_wanted():
    need = draft_need({}, IDLE, DraftDemandRate(2.1, 2.1, 0.0), GOALS)
    assert need.replicas == pytest.approx(3.0)


def test_drafts_that_do_not_pay_need_no_replica_however_busy_they_are():
    assert draft_need({"d": replica()}, TierPace(1.0, 100, 0, 0), NO_DEMAND, GOALS).replicas == 0


def test_any_wish_needs_a_whole_replica():
    assert draft_need({}, IDLE, DraftDemandRate(0.001, 0.001, 0.0), GOALS).replicas == 1


def test_requests_ask_for_orchestrators():
    answers = {"a": orchestrator(num_requests=90), "b": orchestrator(num_requests=15)}
    assert orchestrator_need(answers, GOALS).replicas == pytest.approx(1.5)


def test_a_tier_that_measured_nothing_is_judged_by_the_rest():
    silent = replica(1000, num_held_blocks=10)
    silent = type(silent)(silent.load, silent.work)
    assert target_need({"a": silent}, IDLE, None, GOALS).signal == "keys and values"


def test_a_queue_that_is_gone_at_times_asks_for_nobody():
    looks = [
        Answers(targets={"a": replica(num_waiting_tokens=waiting)}) for waiting in (900, 0, 800)
    ]
    assert rates_between(*looks).targets.num_standing_tokens == 0
    looks[1] = Answers(targets={"a": replica(num_waiting_tokens=700)})
    assert rates_between(*looks).targets.num_standing_tokens == 700


def rates_between(first: Answers, *later: Answers) -> History:
    history = History(15.0)
    for index, answers in enumerate((first, *later)):
        history.add(5.0 * index, answers)
    return history


def test_rates_are_differences_of_the_same_process():
    before = Answers(
        drafts={"d": replica(busy_ns=10 * SECOND, num_computed_tokens=500)},
        orchestrators={"o": orchestrator(60, wanted_s=10, unserved_s=1, num_rounds=100)},
    )
    after = Answers(
        drafts={
            "d": replica(uptime_ns=70 * SECOND, busy_ns=15 * SECOND, num_computed_tokens=1500),
            "new": replica(busy_ns=60 * SECOND),
        },
        orchestrators={
            "o": orchestrator(70, wanted_s=16, unserved_s=4, num_rounds=200, num_draft_tokens=300),
            "new": orchestrator(60, wanted_s=100),
        },
    )
    history = rates_between(before, after)
    assert history.drafts == TierPace(0.5, 200.0, 0, 0)
    assert history.draft_demand == DraftDemandRate(pytest.approx(0.6), pytest.approx(0.3), 3.0)


def test_a_process_that_was_started_anew_is_left_out_until_it_has_answered_twice():
    before = Answers(orchestrators={"o": orchestrator(3600, wanted_s=100)})
    after = Answers(orchestrators={"o": orchestrator(2, wanted_s=1)})
    assert rates_between(before, after).draft_demand is None
    again = Answers(orchestrators={"o": orchestrator(7, wanted_s=2)})
    history = rates_between(before, after, again)
    assert history.draft_demand is not None
    assert history.draft_demand.wanted == pytest.approx(0.2)


def test_rates_are_those_of_the_last_seconds():
    history = History(15.0)
    for index in range(10):
        wanted_s = 5.0 * min(index, 5)
        answers = Answers(orchestrators={"o": orchestrator(60 + 5 * index, wanted_s=wanted_s)})
        history.add(5.0 * index, answers)
    assert history.draft_demand == NO_DEMAND
