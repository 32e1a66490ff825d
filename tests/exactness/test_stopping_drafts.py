"""A draft that ends where the draft model is uncertain changes nothing but its length.

Its end has to follow from the tokens before it: then it is a stopping time, and every round is as
exact as one with a fixed number of guesses. A twin that looks at the guess it has just drawn, and
drops it if it is an unlikely one, is caught in every mode that reads q. (Coupled sampling reads
none: `test_coupled.py` goes through drafts of all lengths, whatever ended them.)
"""

from dataclasses import replace
from fractions import Fraction

import pytest

from forethought.sampling.block import judge_block
from forethought.sampling.rejection import judge
from forethought.sampling.types import DraftedToken
from tests.exactness.enumeration import (
    Distribution,
    Scenario,
    Stack,
    is_lossless,
    mean_num_accepted,
    random_model,
)
from tests.exactness.scenarios import PEAKED, POSITIVE, TRUNCATED, WHOLE, WIDE

JUDGES = {"rejection": judge, "block": judge_block}
every_judge = pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
MIN_PROBS = [Fraction(2, 5), Fraction(1, 2), Fraction(3, 4)]
# Few tokens keep the paths of two rounds few.
TWO_ROUNDS = Scenario(random_model("target", POSITIVE, 2), random_model("draft", POSITIVE, 2), 2, 3)


def stopping(min_prob: Fraction, judge: object) -> Stack:
    def is_uncertain(q: Distribution) -> bool:
        return max(q) < min_prob

    return Stack(judge=judge, stops=is_uncertain)


def dropping(min_prob: Fraction, judge: object) -> Stack:
    def is_unlikely(guess: DraftedToken) -> bool:
        return guess.draft_probs[guess.support_token_ids.index(guess.token_id)] < min_prob

    return Stack(judge=judge, drops=is_unlikely)


@every_judge
@pytest.mark.parametrize("min_prob", MIN_PROBS)
def test_a_round_that_may_stop_has_exactly_the_distribution_of_the_target(judge, min_prob):
    for scenario in (WHOLE, TRUNCATED, PEAKED, WIDE):
        assert is_lossless(scenario, stopping(min_prob, judge))


@every_judge
def test_two_rounds_that_may_stop_have_it_too(judge):
    assert is_lossless(TWO_ROUNDS, stopping(Fraction(3, 5), judge), num_rounds=2)


@every_judge
def test_some_drafts_stop_and_some_do_not(judge):
    """Else the tests above would say nothing."""
    whole, stopped = Stack(judge=judge), stopping(MIN_PROBS[1], judge)
    assert 0 < mean_num_accepted(WHOLE, stopped) < mean_num_accepted(WHOLE, whole)


@every_judge
def test_the_twin_that_drops_an_unlikely_guess_is_caught(judge):
    assert not is_lossless(WHOLE, dropping(Fraction(2, 5), judge))
    one = replace(WHOLE, num_speculative_tokens=1)
    assert not is_lossless(one, dropping(Fraction(2, 5), judge))
