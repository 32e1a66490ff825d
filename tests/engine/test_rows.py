"""Every build of the C kernels makes of a row what torch makes of it."""

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from forethought.engine.native import kernels
from forethought.engine.native.kernels import builds_for_this_machine
from forethought.engine.rows import native_rows, torch_rows
from forethought.engine.rows.draws import draw_drafts, measure
from forethought.engine.rows.filters import shape_logits
from forethought.engine.rows.row_measures import FlatSupports
from forethought.sampling.params import SamplingParams

ALMOST_1 = 1 - 2.0**-53
VOCAB_SIZES = st.sampled_from([1, 2, 15, 63, 64, 65, 300, 3000, 20_000])
"""Around the kernels' vectors of 16 and spans of 64, too."""
CUTS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([1e-38, 0.2, 1.0, 100.0]),
    top_k=st.one_of(st.just(0), st.integers(1, 400)),
    top_p=st.one_of(st.just(1.0), st.floats(0, 1, exclude_min=True)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
)
NO_CUT = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
LONG_ROW = torch.randn(1, 300_000, generator=torch.Generator().manual_seed(1))


@st.composite
def logit_rows(draw: st.DrawFn) -> torch.Tensor:
    """Peaked and flat ones, with ties, with impossible tokens, and far from 0."""
    vocab_size, num_rows = draw(VOCAB_SIZES), draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    logits = torch.randn(num_rows, vocab_size, generator=generator)
    logits *= draw(st.sampled_from([0.0, 0.01, 1.0, 4.0, 60.0, 1e30]))
    logits += draw(st.sampled_from([0.0, -500.0, 1e6]))
    if draw(st.booleans()):
        logits = logits.bfloat16().float()
    if draw(st.booleans()):
        hidden = torch.rand(num_rows, vocab_size, generator=generator) < 0.9
        hidden[:, draw(st.integers(0, vocab_size - 1))] = False
        logits[hidden] = -torch.inf
    return logits


@pytest.fixture(scope="module", params=builds_for_this_machine(), autouse=True)
def build(request: pytest.FixtureRequest) -> Iterator[None]:
    module = import_module(f"forethought.engine.native._kernels_{request.param}")
    with patch.object(kernels, "native", module):
        yield


@settings(max_examples=100, deadline=None)
@given(logits=logit_rows(), temperature=st.sampled_from([1e-38, 0.01, 0.7, 1.0, 100.0]))
def test_softmax_is_that_of_doubles(logits, temperature):
    probs = shape_logits(logits, SamplingParams(temperature=temperature))
    scores = logits - logits.amax(dim=-1, keepdim=True)
    expected = (scores.double() / max(temperature, 1e-37)).softmax(dim=-1)
    assert probs.dtype is torch.float32
    # Rounding of a score of -x is an error of x ulps of its probability.
    tolerance = 1e-6 + 2.0**-23 * (scores.double() / max(temperature, 1e-37)).abs().clamp(max=87)
    assert ((probs - expected).abs() <= expected * tolerance + 1e-37).all()


@settings(max_examples=100, deadline=None)
@given(logits=logit_rows(), params=CUTS)
@example(torch.zeros(2, 20_000), SamplingParams(top_p=0.9999999))
@example(LONG_ROW[:, :20_000] * 0.01, SamplingParams(top_p=0.5))
@example(LONG_ROW[:, :20_000], SamplingParams(top_k=400, top_p=0.3))
@example(LONG_ROW * 0.01, SamplingParams(top_p=0.5))
def test_of_the_same_softmax_the_same_tokens_are_kept(logits, params):
    uncut = shape_logits(logits, replace(params, **NO_CUT))
    probs = shape_logits(logits, params)
    expected = torch_rows.cut(uncut, params)
    assert torch.equal(probs > 0, expected > 0)
    torch.testing.assert_close(probs, expected, atol=0, rtol=2e-6)


def test_a_nucleus_that_rounding_pushed_far_into_the_tail_is_found():
    """61 equals that sum to 1 - 5.6e-8 in float32, and a tail that makes up for a part of it."""
    tail = torch.linspace(0.5, 0.98, 1000).double() * 1.5e-9
    logits = torch.cat((torch.zeros(61), tail.log().float()))[None]
    params = SamplingParams(top_p=1 - 5.3e-8)
    uncut = shape_logits(logits, SamplingParams())
    expected = torch_rows.cut(uncut, params)
    assert 61 < int((expected > 0).sum()) < 1061
    assert torch.equal(shape_logits(logits, params) > 0, expected > 0)


@settings(max_examples=100, deadline=None)
@given(logits=logit_rows())
@example(torch.tensor([[-0.0, 0.0], [0.0, -0.0]]))
@example(torch.tensor([[1.0, -torch.inf, 1.0]]))
def test_greedy_rows_are_the_same(logits):
    greedy = SamplingParams(temperature=0)
    probs = shape_logits(logits, greedy)
    expected = torch_rows.shape(logits, [greedy] * len(logits))
    assert expected is not None
    assert torch.equal(probs, expected)


@pytest.mark.parametrize("temperature", [0, 0.5])
@pytest.mark.parametrize("vocab_size", [1, 63, 300])
@pytest.mark.parametrize("place", [0, -1])
def test_what_is_not_a_number_is_found_wherever_it_is(temperature, vocab_size, place):
    logits = torch.zeros(3, vocab_size)
    params = [SamplingParams(temperature=temperature)] * 3
    for value in (torch.nan, -torch.nan, torch.inf):
        logits[1, place] = value
        assert native_rows.shape(logits, params) is None
        assert torch_rows.shape(logits, params) is None


def test_a_row_without_any_possible_token_is_refused():
    logits = torch.full((1, 300), -torch.inf)
    assert native_rows.shape(logits, [SamplingParams()]) is None
    assert torch_rows.shape(logits, [SamplingParams()]) is None


@settings(max_examples=100, deadline=None)
@given(logits=logit_rows(), params=CUTS, max_support=st.integers(1, 256))
def test_the_top_ones_are_the_likeliest_and_of_equals_the_first(logits, params, max_support):
    probs = shape_logits(logits, params)
    size = min(max_support, probs.shape[-1])
    top_probs, top_ids = native_rows.top(probs, size)
    for row, own_probs, own_ids in zip(probs.numpy(), top_probs, top_ids, strict=True):
        order = np.argsort(-row, kind="stable")[:size]
        assert own_probs == row[order].tolist()
        assert own_ids == [token_id if row[token_id] else 0 for token_id in order.tolist()]


@settings(max_examples=100, deadline=None)
@given(
    logits=logit_rows(),
    params=CUTS,
    u=st.one_of(st.floats(0, ALMOST_1), st.sampled_from([0.0, ALMOST_1])),
    data=st.data(),
)
def test_rows_measure_the_same(logits, params, u, data):
    probs = shape_logits(logits, params)
    num_rows, vocab_size = probs.shape
    likely = probs[0].argsort(descending=True)[:20].tolist()
    tokens = st.one_of(st.sampled_from(likely), st.integers(0, vocab_size - 1))
    supports = [data.draw(st.lists(tokens, unique=True, max_size=40)) for _ in range(num_rows)]
    token_ids = [token_id for support in supports for token_id in support]
    sizes = [len(support) for support in supports]
    flat = FlatSupports(token_ids, np.cumsum([0, *sizes]).tolist())

    measured = native_rows.measure(probs, flat, [u] * num_rows)
    expected = torch_rows.measure(probs, flat, [u] * num_rows)

    assert np.array_equal(measured.on_support, expected.on_support)
    assert list(measured.greedy_ids) == expected.greedy_ids
    assert list(measured.tail_masses) == pytest.approx(expected.tail_masses, rel=1e-13, abs=0)
    for row, support, mass, tail_id, tail_prob in zip(
        probs.double(),
        supports,
        measured.tail_masses,
        measured.tail_ids,
        measured.tail_probs,
        strict=True,
    ):
        assert tail_prob == row[tail_id]
        if not mass:
            continue
        assert tail_prob > 0
        assert tail_id not in support
        # Inversion puts the tokens side by side in the order of their ids.
        row[support] = 0
        end = float(row[: tail_id + 1].sum())
        assert end - tail_prob - 1e-13 <= u * mass <= end + 1e-13


def test_rows_that_are_not_side_by_side_in_memory_are_read_right():
    wide = torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    narrow = wide[:, :300]
    params = SamplingParams(top_k=20)
    probs = shape_logits(narrow, params)
    assert torch.equal(probs, shape_logits(narrow.clone(), params))
    wide[:, :300] = probs
    apart = wide[:, :300]
    for left, right in zip(
        measure(apart, [[1]] * 3, [0.5] * 3), measure(probs, [[1]] * 3, [0.5] * 3), strict=True
    ):
        assert left.tail_token_id == right.tail_token_id
        assert left.tail_mass == right.tail_mass
    drafts = draw_drafts(apart, 5, [0.5] * 3), draw_drafts(probs, 5, [0.5] * 3)
    assert [draft.token_id for draft in drafts[0]] == [draft.token_id for draft in drafts[1]]


@pytest.mark.parametrize("cut", [{}, {"top_k": 50}, {"top_p": 0.7}, {"temperature": 0}])
def test_threads_change_nothing(cut):
    """Enough rows for the kernels to share them out."""
    logits = torch.randn(5, 100_000, generator=torch.Generator().manual_seed(1)) * 3
    params = SamplingParams(**cut)
    supports, uniforms = [[7, 90_000]] * 5, [0.1, 0.3, 0.5, 0.7, 0.9]
    torch.set_num_threads(2)
    try:
        together = shape_logits(logits, params)
        measures = measure(together, supports, uniforms)
        drafts = draw_drafts(together, 32, uniforms)
    finally:
        torch.set_num_threads(1)
    for row, u in enumerate(uniforms):
        alone = shape_logits(logits[row : row + 1], params)
        assert torch.equal(together[row], alone[0])
        (own,) = measure(alone, supports[:1], [u])
        assert own.tail_token_id == measures[row].tail_token_id
        assert own.tail_mass == measures[row].tail_mass
        (draft,) = draw_drafts(alone, 32, [u])
        assert draft.support_token_ids == drafts[row].support_token_ids
        assert np.array_equal(draft.draft_probs, drafts[row].draft_probs)
