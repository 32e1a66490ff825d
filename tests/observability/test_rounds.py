"""Rounds are counted by what became of them, under labels that a draft tier cannot multiply."""

from dataclasses import replace

import numpy as np
import pytest

from forethought.generation import NoDraftReason
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    Outcome,
    OutputToken,
    TokenOrigin,
    VerificationMode,
)
from forethought.tier import EvidenceRound, RoundTimings
from orchestrator.loop.round import Absence, Ask, Drafted, Round
from orchestrator.loop.session import Session
from orchestrator.metrics.rounds import MAX_PROPOSERS, OUTCOMES, RoundCounts


def a_round(num_asked, num_drafted=0, num_accepted=0, proposer="model"):
    guess = DraftedToken(1, (1,), np.ones(1))
    token = OutputToken(1, TokenOrigin.ACCEPTED, 1.0, 1.0)
    return Round(
        Session("one", (1, 2, 3), 100, SamplingParams(seed=1), mode=VerificationMode.BLOCK),
        Ask(num_asked),
        Drafted(Draft((guess,) * num_drafted, proposer), has_failed=num_drafted < num_asked),
        EvidenceRound(0, 3, Evidence(()), RoundTimings()),
        Outcome((token,) * (num_accepted + 1)),
        speculation_ns=1_000_000,
        verification_ns=2_000_000,
        rejection_ns=3_000,
    )


@pytest.mark.parametrize(
    ("judged", "outcome"),
    [
        (a_round(0), "plain"),
        (a_round(4), "no_draft"),
        (a_round(4, 4, 4), "all_accepted"),
        (a_round(4, 4, 1), "some_accepted"),
        (a_round(4, 4, 0), "none_accepted"),
    ],
    ids=OUTCOMES,
)
def test_a_round_has_one_outcome(judged, outcome):
    counts = RoundCounts()
    counts.add(judged)
    assert counts.outcomes[VerificationMode.BLOCK][OUTCOMES.index(outcome)] == 1
    assert sum(map(sum, counts.outcomes.values())) == 1
    assert sum(counts.verification.counts) == sum(counts.rejection.counts) == 1
    assert sum(counts.speculation.counts) == (outcome != "plain")


def test_each_drafted_token_has_one_verdict():
    counts = RoundCounts()
    for judged in (a_round(4, 4, 4), a_round(4, 4, 1), a_round(4, 3, 0)):
        counts.add(judged)
    model = counts.proposers["model"]
    assert (model.num_accepted, model.num_rejected, model.num_dropped) == (5, 2, 4)
    assert (counts.num_drafts, counts.num_draft_tokens, counts.num_accepted_tokens) == (3, 11, 5)
    assert counts.num_accepted_tokens_per_position == [2, 1, 1, 1]


def test_a_draft_that_did_not_come_is_counted_by_why():
    counts = RoundCounts()
    is_late = Drafted(has_failed=True, absence=Absence(NoDraftReason.LATE))
    counts.add(replace(a_round(4), drafted=is_late))
    counts.add(a_round(4))
    found_nothing = a_round(4)
    found_nothing = replace(found_nothing, drafted=Drafted())
    counts.add(found_nothing)
    assert counts.num_failures == {NoDraftReason.LATE: 1, NoDraftReason.DOWN: 1}


def test_a_draft_tier_that_calls_its_proposers_anything_makes_no_more_labels():
    counts = RoundCounts()
    for number in range(1000):
        counts.add(a_round(1, 1, 1, f"proposer {number}"))
    assert len(counts.proposers) == MAX_PROPOSERS + 1
    assert counts.proposers["other"].num_accepted == 1000 - MAX_PROPOSERS
