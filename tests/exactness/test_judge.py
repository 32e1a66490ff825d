"""The judges on floats: what holds for every draft, every evidence and every draw."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from forethought.errors import TierProtocolError
from forethought.sampling.block import judge_block
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.judges import JUDGES, Judge
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.rejection import draw_index, judge
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    PositionEvidence,
    TokenOrigin,
    as_probabilities,
)
from tests.exactness import block_twins, twins

JUST_BELOW_1 = 1 - 2.0**-53
TINIEST = 5e-324  # the smallest subnormal double
TAIL_TOKEN = 100
BONUS_TOKEN = 200

draws = st.sampled_from([0.0, 2.0**-53, 0.5, JUST_BELOW_1]) | st.floats(0, 1, exclude_max=True)
weights = st.just(0.0) | st.sampled_from([TINIEST, 1e-300]) | st.floats(1e-9, 1)


@dataclass(frozen=True, slots=True)
class ConstantRandomness:
    """Every draw is the same number."""

    u: float

    def uniform(self, stream: Stream, position: int) -> float:
        return self.u


@dataclass(frozen=True, slots=True)
class Round:
    draft: Draft
    evidence: Evidence


def drafted_token(token_id: int, q: list[float]) -> DraftedToken:
    return DraftedToken(token_id, tuple(range(len(q))), as_probabilities(q))


def checked_position(p: list[float], tail_mass: float) -> PositionEvidence:
    tail = TAIL_TOKEN if p else BONUS_TOKEN
    return PositionEvidence(
        as_probabilities(p), tail_mass, tail, tail_mass, int(np.argmax([*p, 0]))
    )


def one_guess(token_id: int, q: list[float], p: list[float], tail_mass: float = 0.0) -> Round:
    draft = Draft((drafted_token(token_id, q),))
    return Round(draft, Evidence((checked_position(p, tail_mass), checked_position([], 1.0))))


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    """Up to five guesses from supports of up to six tokens; p and q may vanish nearly anywhere."""
    drafted: list[DraftedToken] = []
    checked: list[PositionEvidence] = []
    for _ in range(draw(st.integers(0, 5))):
        size = draw(st.integers(1, 6))
        q = np.array(draw(st.lists(weights, min_size=size, max_size=size).filter(any)))
        # [M + 1], the tail last
        p = np.array(draw(st.lists(weights, min_size=size + 1, max_size=size + 1).filter(any)))
        q, p = q / q.sum(), p / p.sum()
        place = draw_index(list(q), draw(draws))
        drafted.append(drafted_token(place, list(q)))
        checked.append(checked_position(list(p[:-1]), float(p[-1])))
    return Round(Draft(tuple(drafted)), Evidence((*checked, checked_position([], 1.0))))


any_randomness = st.builds(ConstantRandomness, draws) | st.builds(
    KeyedRandomness, st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
)
positions = st.integers(0, 2**40)
by_each_judge = pytest.mark.parametrize("judge", [judge, judge_block])


@by_each_judge
@given(case=rounds(), randomness=any_randomness, position=positions)
def test_a_round_ends_with_exactly_one_token_after_an_accepted_prefix_of_the_draft(
    judge: Judge, case: Round, randomness: KeyedRandomness, position: int
) -> None:
    outcome = judge(case.draft, case.evidence, randomness, position)
    *accepted, final = outcome.tokens
    num_accepted = outcome.num_accepted_tokens
    assert num_accepted <= len(case.draft)
    assert [token.token_id for token in accepted] == case.draft.token_ids[:num_accepted]
    assert all(token.origin is TokenOrigin.ACCEPTED for token in accepted)
    all_accepted = num_accepted == len(case.draft)
    assert final.origin is (TokenOrigin.BONUS if all_accepted else TokenOrigin.RECOVERED)


@by_each_judge
@given(case=rounds(), randomness=any_randomness, position=positions)
def test_no_token_that_the_target_excludes_is_ever_put_out(
    judge: Judge, case: Round, randomness: KeyedRandomness, position: int
) -> None:
    outcome = judge(case.draft, case.evidence, randomness, position)
    for token, checked in zip(outcome.tokens, case.evidence.positions, strict=False):
        in_tail = token.token_id == checked.tail_token_id
        p = checked.tail_mass if in_tail else checked.target_probs[token.token_id]
        assert p > 0
        assert token.target_prob == p


@by_each_judge
@given(case=rounds(), randomness=any_randomness, position=positions)
def test_the_reported_probabilities_are_those_of_the_tokens(
    judge: Judge, case: Round, randomness: KeyedRandomness, position: int
) -> None:
    outcome = judge(case.draft, case.evidence, randomness, position)
    for token, drafted in zip(outcome.tokens, case.draft.tokens, strict=False):
        accepted = token.origin is TokenOrigin.ACCEPTED
        assert token.draft_prob == (drafted.draft_prob if accepted else None)


@given(rounds(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), positions)
def test_the_same_draws_give_the_same_outcome(
    case: Round, seed: int, number: int, position: int
) -> None:
    first, second = (
        judge(case.draft, case.evidence, KeyedRandomness(seed, number), position) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize(
    ("judge", "rewrite"), [(judge, twins.faithful), (judge_block, block_twins.faithful)]
)
@given(case=rounds(), randomness=any_randomness, position=positions)
def test_the_plain_rewrite_that_twins_start_from_decides_alike(
    judge: Judge, rewrite: Judge, case: Round, randomness: KeyedRandomness, position: int
) -> None:
    expected = judge(case.draft, case.evidence, randomness, position)
    assert rewrite(case.draft, case.evidence, randomness, position) == expected


@st.composite
def greedy_rounds(draw: st.DrawFn) -> Round:
    """One-hot p, as at temperature 0, and any q."""
    drafted: list[DraftedToken] = []
    checked: list[PositionEvidence] = []
    likelihoods = st.just(0.0) | st.floats(1e-9, 1)
    for _ in range(draw(st.integers(0, 5))):
        q = np.array(draw(st.lists(likelihoods, min_size=1, max_size=4).filter(any)))
        drafted.append(drafted_token(draw_index(list(q), draw(draws)), list(q / q.sum())))
        greedy = draw(st.integers(0, len(q)))  # the last one stands for all outside
        p = [float(place == greedy) for place in range(len(q))]
        checked.append(checked_position(p, float(greedy == len(q))))
    return Round(Draft(tuple(drafted)), Evidence((*checked, checked_position([], 1.0))))


@given(greedy_rounds(), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), positions)
def test_temperature_0_is_judged_alike_in_all_modes(
    case: Round, seed: int, number: int, position: int
) -> None:
    randomness = KeyedRandomness(seed, number)
    expected = judge(case.draft, case.evidence, randomness, position)
    for other in JUDGES.values():
        assert other(case.draft, case.evidence, randomness, position) == expected


@given(greedy_rounds(), draws, positions)
def test_temperature_0_is_judged_alike_by_blocks_whatever_the_draws(
    case: Round, u: float, position: int
) -> None:
    by_blocks, expected = (
        each(case.draft, case.evidence, ConstantRandomness(u), position)
        for each in (judge_block, judge)
    )
    assert by_blocks == expected


def test_a_beginning_that_p_supports_in_full_is_kept_whatever_the_draw() -> None:
    # Neither guess is less likely to the target; 0.1 + 1 - 1 is a little more than 0.1.
    case = one_guess(0, [0.9, 0.1], [1.0, 0.0])
    checked, bonus = case.evidence.positions
    second = one_guess(1, [0.9, 0.1], [1.0, 0.0])
    draft = Draft((*case.draft.tokens, *second.draft.tokens))
    evidence = Evidence((checked, second.evidence.positions[0], bonus))
    outcome = judge_block(draft, evidence, ConstantRandomness(JUST_BELOW_1), 0)
    assert [token.token_id for token in outcome.tokens] == [0, 0]
    assert outcome.num_accepted_tokens == 1


@pytest.mark.parametrize("seed", range(6))
def test_mean_acceptance_is_the_overlap_of_p_and_q(seed: int) -> None:
    dice = np.random.default_rng(seed)
    q, p = dice.dirichlet([0.7] * 6), dice.dirichlet([0.7] * 8)  # [M], [V]: two tokens outside
    overlap = float(np.minimum(p[:6], q).sum())
    num_rounds, accepted = 10_000, 0
    for number in range(num_rounds):
        randomness = KeyedRandomness(seed, number)
        token = draw_index(list(q), randomness.uniform(Stream.DRAFT, 9))
        case = one_guess(token, list(q), list(p[:6]), float(p[6:].sum()))
        accepted += judge(case.draft, case.evidence, randomness, 9).num_accepted_tokens
    deviation = (overlap * (1 - overlap) / num_rounds) ** 0.5
    assert abs(accepted / num_rounds - overlap) < 4 * deviation


@given(st.lists(st.floats(1e-300, 1), min_size=1, max_size=8), draws, st.data())
def test_a_draft_equal_to_the_target_is_always_accepted(
    values: list[float], u: float, data: st.DataObject
) -> None:
    q = list(np.array(values) / sum(values))
    token = data.draw(st.sampled_from(range(len(q))).filter(lambda i: q[i] >= 1e-300))
    case = one_guess(token, q, q)
    outcome = judge(case.draft, case.evidence, ConstantRandomness(u), 0)
    assert outcome.num_accepted_tokens == 1


def test_subnormal_mass_is_judged_without_error() -> None:
    # u * 5e-324 rounds up to 5e-324, a rejection although p = q: the recovered token comes from p.
    case = one_guess(1, [1.0, TINIEST], [1.0, TINIEST])
    outcome = judge(case.draft, case.evidence, ConstantRandomness(JUST_BELOW_1), 0)
    assert outcome.final.origin is TokenOrigin.RECOVERED
    assert outcome.final.token_id == 0


def test_subnormal_tail_mass_is_the_whole_residual() -> None:
    case = one_guess(0, [1.0], [0.0], tail_mass=TINIEST)
    for u in (0.0, JUST_BELOW_1):
        outcome = judge(case.draft, case.evidence, ConstantRandomness(u), 0)
        assert outcome.final.token_id == TAIL_TOKEN


@given(draws)
def test_a_token_that_the_target_excludes_is_rejected_whatever_the_draw(u: float) -> None:
    case = one_guess(0, [0.5, 0.5], [0.0, 1.0])
    outcome = judge(case.draft, case.evidence, ConstantRandomness(u), 0)
    assert [token.token_id for token in outcome.tokens] == [1]


@given(draws)
def test_a_one_hot_target_accepts_its_token_and_recovers_it_otherwise(u: float) -> None:
    right, wrong = one_guess(1, [0.5, 0.5], [0.0, 1.0]), one_guess(0, [1.0], [0.0], tail_mass=1.0)
    randomness = ConstantRandomness(u)
    kept = judge(right.draft, right.evidence, randomness, 0)
    assert [token.token_id for token in kept.tokens] == [1, BONUS_TOKEN]
    replaced = judge(wrong.draft, wrong.evidence, randomness, 0)
    assert [token.token_id for token in replaced.tokens] == [TAIL_TOKEN]


@given(rounds(), any_randomness)
def test_a_tail_without_mass_is_never_chosen(case: Round, randomness: KeyedRandomness) -> None:
    positions = [replace(checked, tail_mass=0.0) for checked in case.evidence.positions[:-1]]
    assume(all(checked.target_probs.any() for checked in positions))
    evidence = Evidence((*positions, case.evidence.positions[-1]))
    outcome = judge(case.draft, evidence, randomness, 0)
    assert TAIL_TOKEN not in [token.token_id for token in outcome.tokens]


@given(st.lists(weights, min_size=1, max_size=40).filter(any), draws)
def test_an_index_without_weight_is_never_drawn(values: list[float], u: float) -> None:
    assert values[draw_index(values, u)] > 0


def test_the_smallest_draw_gives_the_first_and_the_largest_the_last_index_with_weight() -> None:
    values = [0.0, 0.1, 0.2, 0.3, 0.0]
    assert draw_index(values, 0.0) == 1
    assert draw_index(values, JUST_BELOW_1) == 3


@pytest.mark.parametrize("judge", [judge, judge_block, judge_coupled])
def test_evidence_that_does_not_fit_the_draft_is_refused(judge: Judge) -> None:
    case = one_guess(0, [0.5, 0.5], [0.5, 0.5])
    checked, bonus = case.evidence.positions
    narrow = replace(checked, target_probs=as_probabilities([1.0]))
    for unfit in [
        Evidence((checked,)),
        Evidence((checked, bonus, bonus)),
        Evidence((narrow, bonus)),
    ]:
        with pytest.raises(TierProtocolError):
            judge(case.draft, unfit, KeyedRandomness(0, 0), 0)
