"""Shaping equals transformers' own processors, applied in transformers' order."""

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from forethought.engine.rows.filters import ShapedRows, row_contexts, shape_logits, shape_rows
from forethought.errors import ForethoughtError
from forethought.sampling.params import SamplingParams
from tests.engine.ledger import a_sequence

pytestmark = pytest.mark.usefixtures("rows_by")

SHAPES = st.builds(
    SamplingParams,
    temperature=st.floats(0.2, 3),
    top_k=st.one_of(st.just(0), st.integers(1, 100)),
    top_p=st.one_of(st.just(1.0), st.floats(0.05, 0.999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.9)),
    repetition_penalty=st.one_of(st.just(1.0), st.floats(0.5, 2)),
)


def expected_probs(
    logits: torch.Tensor, params: SamplingParams, contexts: list[list[int]]
) -> torch.Tensor:
    """transformers, row by row, since its contexts must be equally long."""
    rows = []
    for row, context in zip(logits, contexts, strict=True):
        ids, scores = torch.tensor([context], dtype=torch.long), row[None]
        processors = [
            RepetitionPenaltyLogitsProcessor(params.repetition_penalty),
            TemperatureLogitsWarper(params.temperature),
            *([TopKLogitsWarper(params.top_k)] if params.top_k else []),
            *([TopPLogitsWarper(params.top_p)] if params.top_p < 1 else []),
            *([MinPLogitsWarper(params.min_p)] if params.min_p else []),
        ]
        for processor in processors:
            scores = processor(ids, scores)
        rows.append(scores.softmax(dim=-1)[0])
    return torch.stack(rows)


def is_clear_cut(logits: torch.Tensor, params: SamplingParams, contexts: list[list[int]]) -> bool:
    """Whether no token is so close to a threshold that rounding decides, which is a tie too."""
    without_cuts = SamplingParams(
        temperature=params.temperature, repetition_penalty=params.repetition_penalty
    )
    probs = expected_probs(logits, without_cuts, contexts).double().sort(descending=True)[0]
    if params.top_k:
        probs = probs[:, : params.top_k]
    probs /= probs.sum(dim=-1, keepdim=True)
    nucleus = (probs.cumsum(dim=-1) - params.top_p).abs().min() if params.top_p < 1 else 1
    floor = (probs / probs[:, :1] - params.min_p).abs().min()
    ties = (probs[:, :-1] - probs[:, 1:]).min() if probs.shape[1] > 1 else 1
    return bool(nucleus > 2e-6 and floor > 1e-6 and ties > 0)


@settings(max_examples=150, deadline=None)
@given(
    params=SHAPES,
    vocab_size=st.sampled_from([1, 2, 16, 256, 300, 3000]),
    spread=st.sampled_from([0.2, 1.0, 4.0]),
    seed=st.integers(0, 10**6),
    num_drafts=st.integers(0, 3),
)
@example(SamplingParams(top_p=0.9), 10_000, 0.01, 0, 1)  # a nucleus wider than any shortcut
@example(SamplingParams(top_p=0.5), 3000, 0.3, 0, 1)  # wider than the first shortcut
@example(SamplingParams(top_p=0.9, top_k=5000), 3000, 1.0, 0, 1)
def test_distributions_equal_those_of_transformers(params, vocab_size, spread, seed, num_drafts):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_drafts + 1, vocab_size, generator=generator) * spread
    committed, drafts = torch.randint(vocab_size, (2, 5), generator=generator).tolist()
    contexts = [[*committed, *drafts[:count]] for count in range(num_drafts + 1)]
    assume(is_clear_cut(logits, params, contexts))
    before = logits.clone()

    probs = shape_logits(logits, params, contexts)

    expected = expected_probs(logits, params, contexts)
    assert torch.equal(logits, before)
    assert torch.equal(probs > 0, expected > 0)
    torch.testing.assert_close(probs, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(probs.sum(dim=-1), torch.ones(len(probs)), atol=1e-5, rtol=0)


# Few of them, so that sessions are often shaped alike; seeds differ all the same.
PARAMS = st.builds(
    replace,
    st.sampled_from(
        [
            SamplingParams(),
            SamplingParams(temperature=0),
            SamplingParams(temperature=0.7, top_p=0.8),
            SamplingParams(repetition_penalty=1.3),
            SamplingParams(temperature=0, repetition_penalty=1.3),
            SamplingParams(top_k=5, top_p=0.9, min_p=0.02, repetition_penalty=0.8),
        ]
    ),
    seed=st.integers(0, 3),
)


@settings(max_examples=150, deadline=None)
@given(
    sessions=st.lists(st.tuples(st.integers(1, 5), PARAMS), min_size=1, max_size=6),
    vocab_size=st.sampled_from([2, 16, 300]),
    seed=st.integers(0, 10**6),
)
def test_a_session_is_shaped_beside_others_as_it_is_alone(sessions, vocab_size, seed):
    generator = torch.Generator().manual_seed(seed)
    num_rows = sum(num for num, _ in sessions)
    logits = torch.randn(num_rows, vocab_size, generator=generator) * 3
    before = logits.clone()
    shaped = [
        ShapedRows(
            num,
            params,
            []
            if params.repetition_penalty == 1
            else [torch.randint(vocab_size, (4,), generator=generator) for _ in range(num)],
        )
        for num, params in sessions
    ]
    together = shape_rows(logits, shaped)
    assert torch.equal(logits, before)
    own = logits.split([each.num_rows for each in shaped])
    alone = [
        shape_logits(rows, each.params, each.contexts)
        for rows, each in zip(own, shaped, strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))


@pytest.mark.parametrize("vocab_size", [3, 256, 700])
def test_temperature_0_is_one_hot_on_the_first_of_the_likeliest(vocab_size):
    logits = torch.full((3, vocab_size), -5.0)
    logits[0, 1] = logits[0, vocab_size - 1] = -1.0
    logits[1, vocab_size - 1] = 2.0
    probs = shape_logits(logits, SamplingParams(temperature=0, top_k=7, top_p=0.5))
    assert probs.nonzero().tolist() == [[0, 1], [1, vocab_size - 1], [2, 0]]
    assert probs.sum() == 3


def test_the_penalty_can_change_the_greedy_token_and_sees_the_drafts_before_a_row():
    params = SamplingParams(temperature=0, repetition_penalty=2.0)
    logits = torch.tensor([[4.0, 3.0, 1.9]]).repeat(3, 1)
    sequence = a_sequence([2, 2])
    probs = shape_logits(logits, params, row_contexts(params, sequence, [0, 1], num_rows=3))
    assert probs.argmax(dim=-1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-38, 1e-6, 1.0, 100.0])
def test_no_temperature_makes_the_distribution_overflow(temperature):
    logits = torch.tensor([[90.0, -90.0, 89.0, -torch.inf]])
    probs = shape_logits(logits, SamplingParams(temperature=temperature))
    assert probs.isfinite().all()
    assert probs.sum() == pytest.approx(1)
    assert probs[0, 3] == 0
    assert probs.argmax() == 0


@pytest.mark.parametrize("temperature", [0, 0.5])
def test_logits_that_are_not_numbers_are_an_error_and_not_a_token(temperature):
    logits = torch.zeros(2, 300)
    logits[1, 280] = torch.nan
    with pytest.raises(ForethoughtError, match="not numbers"):
        shape_logits(logits, SamplingParams(temperature=temperature))


def test_contexts_are_not_built_where_nothing_is_penalised():
    sequence = a_sequence([1, 2])
    assert row_contexts(SamplingParams(), sequence, [3], num_rows=2) == []


@pytest.mark.parametrize("num_rows", [1, 2, 3])
def test_contexts_are_those_of_the_last_rows(num_rows):
    sequence = a_sequence([5, 2, 5])
    contexts = row_contexts(SamplingParams(repetition_penalty=2), sequence, [2, 7], num_rows)
    expected = [[2, 5], [2, 5, 2], [2, 5, 2, 7]]
    assert [context.tolist() for context in contexts] == expected[-num_rows:]
