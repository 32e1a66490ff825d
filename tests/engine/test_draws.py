"""Draws follow their distributions, and evidence says all of p that rejection sampling needs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from forethought.engine.rows.draws import draw_drafts, logprob_rows, measure
from forethought.engine.rows.filters import shape_logits
from forethought.errors import InvalidArgumentError
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import DraftedToken

pytestmark = pytest.mark.usefixtures("rows_by")

ALMOST_1 = 1 - 2.0**-53


def random_probs(num_rows: int, vocab_size: int, seed: int, spread: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(num_rows, vocab_size, generator=generator) * spread).softmax(dim=-1)


def draw_draft(probs: torch.Tensor, max_support: int, u: float) -> DraftedToken:
    """A guess from one distribution, [V]."""
    return draw_drafts(probs[None], max_support, [u])[0]


def tail_counts(probs: torch.Tensor, support: list[int], uniforms: np.ndarray) -> np.ndarray:
    """How often each token was the tail token, [V]."""
    rows = probs.expand(len(uniforms), -1)
    evidence = measure(rows, [support] * len(uniforms), uniforms.tolist())
    return np.bincount([row.tail_token_id for row in evidence], minlength=probs.shape[-1])


@settings(max_examples=100, deadline=None)
@given(
    vocab_size=st.sampled_from([2, 5, 256, 257, 1000]),
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.sampled_from([0.0, 1.0, 10.0, 60.0]), st.sampled_from([0.5, 1.0])),
    u=st.one_of(st.floats(0, ALMOST_1), st.sampled_from([0.0, ALMOST_1])),
    data=st.data(),
)
def test_evidence_covers_all_of_p(vocab_size, seed, shape, u, data):
    spread, top_p = shape
    probs = random_probs(3, vocab_size, seed, spread)
    probs = shape_logits(probs.log(), SamplingParams(top_p=top_p))
    tokens = st.lists(st.integers(0, vocab_size - 1), unique=True, max_size=40)
    supports = [data.draw(tokens), data.draw(tokens), []]

    for row, support, checked in zip(
        probs, supports, measure(probs, supports, [u] * 3), strict=True
    ):
        exact = row.double() / row.double().sum()
        outside = exact.clone()
        outside[support] = 0
        np.testing.assert_allclose(checked.target_probs, exact[support], rtol=1e-12)
        assert checked.target_probs.sum() + checked.tail_mass == pytest.approx(1, abs=1e-14)
        assert checked.tail_mass == pytest.approx(float(outside.sum()), rel=1e-12, abs=0)
        assert checked.greedy_token_id == int(row.argmax())
        if checked.tail_mass:
            assert checked.tail_token_id not in support
            assert checked.tail_token_prob == pytest.approx(float(exact[checked.tail_token_id]))
            assert checked.tail_token_prob > 0
        else:
            assert checked.tail_token_prob == 0


def test_a_support_that_holds_all_of_p_leaves_exactly_nothing():
    probs = torch.zeros(2, 300)
    probs[:, [7, 290]] = torch.tensor([0.1, 0.9])
    full, bonus = measure(probs, [[290, 3, 7], []], [0.5, 0.5])
    assert full.tail_mass == 0.0
    assert full.target_probs[1] == 0.0
    assert bonus.tail_mass == 1.0
    assert bonus.tail_token_id == 290


@pytest.mark.parametrize("support", [[], [0, 299], list(range(256))])
def test_the_tail_token_is_drawn_from_p_outside_the_support(support):
    probs = random_probs(1, 300, seed=1)[0]
    counts = tail_counts(probs, support, np.random.default_rng(0).random(4000))
    expected = probs.double().numpy()
    expected[support] = 0
    expected *= counts.sum() / expected.sum()
    assert not counts[expected == 0].any()
    often = expected >= 5
    rest = [counts[~often].sum()], [expected[~often].sum()]
    observed = np.concatenate([counts[often], rest[0]])
    assert stats.chisquare(observed, np.concatenate([expected[often], rest[1]])).pvalue > 1e-3


def test_evenly_spaced_draws_hit_each_token_as_often_as_it_is_likely():
    probs = random_probs(1, 300, seed=2)[0]
    support = [4, 100, 257]
    counts = tail_counts(probs, support, (np.arange(4000) + 0.5) / 4000)
    expected = probs.double().numpy()
    expected[support] = 0
    # Inversion puts the tokens side by side on [0, 1): a share of the draws each, give or take one.
    assert np.abs(counts - expected / expected.sum() * 4000).max() <= 1
    unrestricted = tail_counts(probs, [], (np.arange(4000) + 0.5) / 4000)
    assert np.abs(unrestricted - expected / expected.sum() * 4000).max() > 1


@settings(max_examples=100, deadline=None)
@given(
    vocab_size=st.sampled_from([1, 3, 40, 1000]),
    spread=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 10**6),
    max_support=st.integers(1, 256),
    u=st.floats(0, ALMOST_1),
)
def test_a_draft_distribution_survives_the_wire_bit_for_bit(
    vocab_size, spread, seed, max_support, u
):
    probs = random_probs(1, vocab_size, seed, spread)[0]
    drafted = draw_draft(probs, max_support, u)

    on_the_wire = np.asarray(drafted.draft_probs, dtype=np.float32)
    received = on_the_wire.astype(np.float64)
    assert np.array_equal(received / received.sum(), drafted.draft_probs)
    assert drafted.draft_probs.sum() == 1
    assert (drafted.draft_probs > 0).all()
    assert drafted.token_id in drafted.support_token_ids
    assert len(set(drafted.support_token_ids)) == len(drafted.draft_probs) <= max_support


def test_truncation_keeps_the_likeliest_tokens_in_proportion():
    probs = random_probs(1, 1000, seed=3)[0]
    drafted = draw_draft(probs, 32, 0.5)
    top_probs, top_ids = probs.double().topk(32)
    assert drafted.support_token_ids == top_ids.tolist()
    np.testing.assert_allclose(
        drafted.draft_probs, top_probs / top_probs.sum(), atol=32 * 2.0**-24, rtol=0
    )


def test_guesses_follow_the_distribution_that_is_sent_with_them():
    probs = random_probs(1, 50, seed=4)[0]
    draws = [draw_draft(probs, 8, (index + 0.5) / 1000) for index in range(1000)]
    support = list(draws[0].support_token_ids)
    counts = np.bincount([support.index(draw.token_id) for draw in draws], minlength=8)
    assert np.abs(counts - draws[0].draft_probs * 1000).max() <= 1


@settings(max_examples=50, deadline=None)
@given(
    vocab_size=st.sampled_from([1, 3, 40, 1000]),
    seed=st.integers(0, 10**6),
    max_support=st.integers(1, 64),
    uniforms=st.lists(st.floats(0, ALMOST_1), min_size=1, max_size=5),
)
def test_rows_are_drawn_beside_others_as_they_are_alone(vocab_size, seed, max_support, uniforms):
    probs = random_probs(len(uniforms), vocab_size, seed)
    together = draw_drafts(probs, max_support, uniforms)
    for drafted, row, u in zip(together, probs, uniforms, strict=True):
        alone = draw_draft(row, max_support, u)
        assert drafted.token_id == alone.token_id
        assert drafted.support_token_ids == alone.support_token_ids
        assert np.array_equal(drafted.draft_probs, alone.draft_probs)


def test_a_greedy_guess_is_certain():
    probs = shape_logits(torch.tensor([[0.0, 3.0, 1.0]]), SamplingParams(temperature=0))[0]
    drafted = draw_draft(probs, 32, ALMOST_1)
    assert drafted.support_token_ids == [1]
    assert drafted.draft_probs.tolist() == [1.0]
    assert drafted.draft_prob == 1.0


@pytest.mark.parametrize("num_top", [0, 3, 300])
def test_logprobs_are_those_of_the_model_itself(num_top):
    logits = torch.randn(2, 300, generator=torch.Generator().manual_seed(5))
    expected = logits.log_softmax(dim=-1)
    rows = logprob_rows(logits, [[4, 290], []], [7, 8], num_top)
    for row, support, tail, row_expected in zip(
        rows, ([4, 290], []), (7, 8), expected, strict=True
    ):
        assert row.support_logprobs == pytest.approx(row_expected[support].tolist(), abs=1e-5)
        assert row.tail_token_logprob == pytest.approx(float(row_expected[tail]), abs=1e-5)
        assert row.top_token_ids == row_expected.topk(num_top).indices.tolist()
        assert row.top_logprobs == pytest.approx(
            row_expected.topk(num_top).values.tolist(), abs=1e-5
        )


@pytest.mark.parametrize("token_id", [-1, 10])
def test_a_support_outside_the_vocabulary_is_refused(token_id):
    probs = random_probs(1, 10, seed=0)
    with pytest.raises(InvalidArgumentError):
        measure(probs, [[token_id]], [0.5])
    with pytest.raises(InvalidArgumentError):
        logprob_rows(probs.log(), [[token_id]], [0], 0)
