"""Tokens that are equally likely, as bfloat16 makes them all the time, and what must not matter.

Speculation is exact only if p at a position is the same whatever was guessed after it: a row's
distribution must not depend on the rows beside it, nor on how a sort happens to order equals.
"""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import TopKLogitsWarper

from forethought.engine.rows.filters import shape_logits
from forethought.sampling.params import SamplingParams

pytestmark = pytest.mark.usefixtures("rows_by")

CUTS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.7, 1.0, 1.5]),
    top_k=st.one_of(st.just(0), st.integers(1, 400)),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.999)),
    min_p=st.sampled_from([0.0, 0.05]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
)
NUCLEUS = SamplingParams(top_p=0.6)
SPREADS = (6.0, 2.5, 1.0, 0.3, 0.0)
"""From rows that need one look at the likeliest tokens to rows that need all of them sorted."""


def tied_rows(vocab_size: int, spreads: tuple[float, ...], seed: int) -> torch.Tensor:
    """Logits as a model in bfloat16 computes them."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(vocab_size, generator=generator) * spread for spread in spreads]
    return torch.stack(rows).bfloat16().float()


@settings(max_examples=60, deadline=None)
@given(
    params=CUTS,
    vocab_size=st.sampled_from([300, 2000, 9000]),
    spreads=st.permutations(SPREADS),
    num_rows=st.integers(2, 5),
    seed=st.integers(0, 10**6),
)
@example(NUCLEUS, 300, SPREADS, 5, 0)
@example(NUCLEUS, 2000, SPREADS, 5, 0)
@example(NUCLEUS, 9000, SPREADS, 5, 0)
def test_a_rows_distribution_does_not_depend_on_the_other_rows(
    params, vocab_size, spreads, num_rows, seed
):
    logits = tied_rows(vocab_size, tuple(spreads[:num_rows]), seed)
    contexts = [[1, 7, 7, 200 + row] for row in range(num_rows)]
    together = shape_logits(logits, params, contexts)
    for row in range(num_rows):
        alone = shape_logits(logits[row : row + 1], params, contexts[row : row + 1])
        assert torch.equal(together[row], alone[0])


@pytest.fixture
def two_threads(one_thread: None) -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("cut", [{}, {"min_p": 0.001}, {"top_k": 50}, {"top_p": 0.7}])
def test_nor_does_it_where_threads_could_share_one_long_row(cut):
    logits = tied_rows(152_000, (6.0, 2.5, 1.0), seed=0)
    together = shape_logits(logits, SamplingParams(**cut))
    for row in range(3):
        alone = shape_logits(logits[row : row + 1], SamplingParams(**cut))
        assert torch.equal(together[row], alone[0])


@settings(max_examples=60, deadline=None)
@given(
    params=CUTS,
    vocab_size=st.sampled_from([300, 2000, 9000]),
    spread=st.sampled_from(SPREADS),
    seed=st.integers(0, 10**6),
)
@example(NUCLEUS, 300, 2.5, 0)
@example(NUCLEUS, 9000, 1.0, 0)
@example(SamplingParams(top_k=50), 300, 1.0, 0)
def test_other_names_for_the_tokens_give_the_same_distribution(params, vocab_size, spread, seed):
    logits = tied_rows(vocab_size, (spread,), seed).mul(8).round().div(8)
    assume(is_clear_of_rounding(logits, params))
    names = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(seed))
    inverse = names.argsort()
    probs = shape_logits(logits, params, [[1, 7, 200]])
    renamed = shape_logits(logits[:, names], params, [inverse[[1, 7, 200]]])
    assert torch.equal(renamed > 0, probs[:, names] > 0)
    torch.testing.assert_close(renamed, probs[:, names], atol=0, rtol=1e-5)


def is_clear_of_rounding(logits: torch.Tensor, params: SamplingParams) -> bool:
    """Whether no group of equals ends so near to a threshold that the softmax's last bit decides,
    which does depend on the order of the tokens."""
    uncut = SamplingParams(
        temperature=params.temperature, repetition_penalty=params.repetition_penalty
    )
    probs = shape_logits(logits, uncut, [[1, 7, 200]])[0].double().sort(descending=True)[0]
    if params.top_k:
        probs = probs[probs >= probs[: params.top_k][-1]]
    values, counts = probs.unique(return_counts=True)
    masses = (values * counts).flip(0).cumsum(0) / probs.sum()
    nucleus = (masses - params.top_p).abs().min() if params.top_p < 1 else 1
    return bool(nucleus > 1e-6 and (values / values[-1] - params.min_p).abs().min() > 1e-6)


@pytest.mark.parametrize(
    ("cut", "num_kept"),
    [
        ({"top_k": 1}, 1),
        ({"top_k": 2}, 4),
        ({"top_k": 4}, 4),
        ({"top_k": 5}, 5),
        ({"top_p": 0.35}, 1),
        ({"top_p": 0.45}, 4),
        ({"top_p": 0.95}, 4),
        # The whole that top-p takes its share of is 0.97, not the 0.59 of two tokens.
        ({"top_k": 2, "top_p": 0.45}, 4),
        ({"min_p": 0.47}, 4),
    ],
)
def test_all_of_several_equals_are_kept(cut, num_kept):
    logits = torch.tensor([[0.19, 0.4, 0.19, 0.03, 0.19]]).log()
    probs = shape_logits(logits, SamplingParams(**cut))
    likeliest_first = [1, 0, 2, 4, 3]
    assert probs.nonzero()[:, 1].tolist() == sorted(likeliest_first[:num_kept])
    assert probs.sum() == pytest.approx(1)


@pytest.mark.parametrize("cut", [{"top_k": 5}, {"top_p": 0.5}, {"top_p": 0.5, "top_k": 5}])
@pytest.mark.parametrize("vocab_size", [1, 5, 300, 10_000])
def test_nothing_is_cut_where_all_are_equal(cut, vocab_size):
    probs = shape_logits(torch.zeros(2, vocab_size), SamplingParams(**cut))
    torch.testing.assert_close(probs, torch.full((2, vocab_size), 1 / vocab_size))


@pytest.mark.parametrize("top_k", [1, 50, 299])
def test_top_k_keeps_the_equals_that_transformers_keeps(top_k):
    logits = tied_rows(300, (1.0, 0.3, 2.5), seed=3)
    expected = TopKLogitsWarper(top_k)(torch.empty(3, 0, dtype=torch.long), logits).softmax(dim=-1)
    torch.testing.assert_close(shape_logits(logits, SamplingParams(top_k=top_k)), expected)


@pytest.mark.parametrize("top_k", [0, 2, 300])
@pytest.mark.parametrize("top_p", [5e-324, 1e-310, 1e-30])
def test_a_tiny_top_p_keeps_the_most_likely_token(top_p, top_k):
    logits = tied_rows(300, (2.5,), seed=5)
    logits[0, 280] = 20
    probs = shape_logits(logits, SamplingParams(top_p=top_p, top_k=top_k))
    assert probs.nonzero().tolist() == [[0, 280]]
    assert probs[0, 280] == 1


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_mass_that_is_reached_exactly_is_reached(top_k):
    logits = torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert shape_logits(logits, SamplingParams()).tolist() == [[0.25, 0.5, 0.25]]
    probs = shape_logits(logits, SamplingParams(top_p=0.5, top_k=top_k))
    assert probs.tolist() == [[0, 1, 0]]
