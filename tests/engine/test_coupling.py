"""Choices by shared noise: those of the definition, whoever computes them."""

from importlib import import_module
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from forethought.engine.native import kernels
from forethought.engine.native.kernels import builds_for_this_machine
from forethought.engine.rows import native_rows, torch_rows
from forethought.engine.rows.coupling import draw_coupled, measure_coupled
from forethought.engine.rows.draws import flat_supports
from forethought.engine.rows.filters import shape_logits
from forethought.errors import InvalidArgumentError
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, coupling_key

VOCAB_SIZES = st.sampled_from([1, 2, 15, 63, 64, 65, 300, 3001])
SEEDS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63 - 1, 2**63, 2**64 - 1]))
CUTS = st.sampled_from([{}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 0}])


@pytest.fixture(scope="module", params=["torch", *builds_for_this_machine()], autouse=True)
def build(request: pytest.FixtureRequest):
    with pytest.MonkeyPatch.context() as patched:
        if request.param == "torch":
            patched.setattr(kernels, "are_built", False)
        else:
            module = import_module(f"forethought.engine.native._kernels_{request.param}")
            patched.setattr(kernels, "native", module)
            patched.setattr(kernels, "are_built", True)
        yield


def rows_of(num_rows: int, vocab_size: int, seed: int, spread: float, cut: dict) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_rows, vocab_size, generator=generator) * spread
    return shape_logits(logits, SamplingParams(**cut))


def expected_choice(probs: torch.Tensor, seed: int, position: int, without: list[int]) -> int:
    """By the definition, token by token; 0 where there is nothing to choose."""
    randomness = KeyedRandomness(seed, 0)
    scores = {
        token_id: randomness.exponential(position, token_id) / prob
        for token_id, prob in enumerate(probs.tolist())
        if prob > 0 and token_id not in without
    }
    return min(scores, key=scores.__getitem__, default=0)


rows = st.builds(
    rows_of,
    num_rows=st.integers(1, 3),
    vocab_size=VOCAB_SIZES,
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.0, 1.0, 4.0, 30.0]),
    cut=CUTS,
)


@settings(max_examples=60, deadline=None)
@given(probs=rows, seed=SEEDS, position=st.integers(0, 2**32))
@example(torch.tensor([[0.0] * 64, [0.0] * 63 + [1e-45], [0.0] * 64]), 3, 0)
@example(torch.full((1, 300), 1e-45), 2**63, 7)
def test_a_draft_is_the_choice_of_the_definition(probs, seed, position):
    positions = range(position, position + len(probs))
    guesses = draw_coupled(probs, [coupling_key(seed, each) for each in positions])
    assert [guess.token_id for guess in guesses] == [
        expected_choice(row, seed, each, []) for row, each in zip(probs, positions, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(probs=rows, seed=SEEDS, data=st.data())
def test_a_tail_token_is_the_choice_among_those_outside_the_support(probs, seed, data):
    num_rows, vocab_size = probs.shape
    likely = probs[0].argsort(descending=True)[:20].tolist()
    tokens = st.one_of(st.sampled_from(likely), st.integers(0, vocab_size - 1))
    supports = [data.draw(st.lists(tokens, unique=True, max_size=40)) for _ in range(num_rows)]
    keys = [coupling_key(seed, position) for position in range(num_rows)]

    evidence = measure_coupled(probs, supports, keys)

    for position, (row, support, own) in enumerate(zip(probs, supports, evidence, strict=True)):
        outside = row.double()
        outside[support] = 0
        assert own.target_probs.tolist() == row[support].tolist()
        assert own.tail_mass == pytest.approx(float(outside.sum()), rel=1e-12)
        assert own.greedy_token_id == int(row.argmax())
        chosen = expected_choice(row, seed, position, support)
        assert own.tail_token_id == chosen
        assert own.tail_token_prob == float(outside[chosen])


@settings(max_examples=20, deadline=None)
@given(probs=rows, seed=SEEDS)
def test_all_compute_the_same(probs, seed):
    keys = [coupling_key(seed, position) for position in range(len(probs))]
    flat = flat_supports([[0]] * len(probs), probs.shape[-1])
    assert list(native_rows.choose(probs, keys)) == torch_rows.choose(probs, keys)
    measured = native_rows.measure_coupled(probs, flat, keys)
    expected = torch_rows.measure_coupled(probs, flat, keys)
    assert np.array_equal(measured.on_support, expected.on_support)
    assert list(measured.tail_ids) == list(expected.tail_ids)
    assert list(measured.tail_probs) == expected.tail_probs
    assert list(measured.greedy_ids) == expected.greedy_ids
    assert list(measured.tail_masses) == pytest.approx(expected.tail_masses, rel=1e-13, abs=0)


def test_choices_over_a_whole_vocabulary_are_those_of_torch():
    """Long rows, where all but a dozen tokens are passed over without a logarithm."""
    logits = torch.randn(40, 49_152, generator=torch.Generator().manual_seed(2))
    logits *= torch.linspace(0, 8, 40)[:, None]
    probs = shape_logits(logits, SamplingParams())
    keys = [coupling_key(2**63 + 1, position) for position in range(40)]
    chosen = [guess.token_id for guess in draw_coupled(probs, keys)]
    assert chosen == torch_rows.choose(probs, keys)
    likeliest = probs.topk(32)[1].tolist()
    with patch.object(kernels, "are_built", False):
        expected = measure_coupled(probs, likeliest, keys)
    measured = measure_coupled(probs, likeliest, keys)
    assert [each.tail_token_id for each in measured] == [each.tail_token_id for each in expected]


def test_a_token_whose_noise_is_as_small_as_can_be_is_not_passed_over():
    """Its hash begins with so many ones that the bits looked at first do not bound the noise."""
    token_id = 217
    probs = torch.ones(1, 300)
    probs[0, token_id] = 1e-6
    for distance in range(0, 2**24, 2**20):
        key = _key_of(2**64 - 1 - distance, token_id)
        assert draw_coupled(probs, [key])[0].token_id == token_id


def _key_of(bits: int, index: int) -> int:
    """The key of which SplitMix64 makes these bits at an index."""
    for shift, factor in ((31, 0x94D049BB133111EB), (27, 0xBF58476D1CE4E5B9), (30, 1)):
        unshifted = bits
        for _ in range(64 // shift):
            unshifted = bits ^ unshifted >> shift
        bits = unshifted * pow(factor, -1, 2**64) % 2**64
    return (bits - (index + 1) * 0x9E3779B97F4A7C15) % 2**64


def test_choices_follow_p():
    probs = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.1])
    keys = [coupling_key(seed, 3) for seed in range(4000)]
    guesses = [guess.token_id for guess in draw_coupled(probs.expand(4000, -1), keys)]
    counts = np.bincount(guesses, minlength=5)
    assert counts[1] == 0
    expected = 4000 * np.array([0.5, 0.2, 0.2, 0.1])
    assert stats.chisquare(counts[[0, 2, 3, 4]], expected).pvalue > 1e-3


def test_threads_and_neighbours_change_nothing():
    """Enough rows for the kernels to share them out."""
    probs = rows_of(5, 100_000, 1, 3.0, {})
    keys = [coupling_key(9, position) for position in range(5)]
    supports = [[7, 90_000]] * 5
    torch.set_num_threads(2)
    try:
        guesses = draw_coupled(probs, keys)
        evidence = measure_coupled(probs, supports, keys)
    finally:
        torch.set_num_threads(1)
    for row in range(5):
        alone, key = probs[row : row + 1], keys[row : row + 1]
        assert draw_coupled(alone, key)[0].token_id == guesses[row].token_id
        (own,) = measure_coupled(alone, supports[:1], key)
        assert own.tail_token_id == evidence[row].tail_token_id
        assert own.tail_mass == evidence[row].tail_mass


def test_a_support_with_what_is_no_token_is_refused():
    with pytest.raises(InvalidArgumentError):
        measure_coupled(torch.full((1, 4), 0.25), [[4]], [1])
