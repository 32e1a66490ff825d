"""Samples drawn through a running deployment are distributed as the target says.

`test_broken_twins.py` shows that the same check notices mistakes.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from forethought.counts.builder import BuildOptions, build_table
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import DraftedToken, as_probabilities
from orchestrator.lookup.counts import CountsLookup
from orchestrator.lookup.suffix import SuffixLookup, SuffixOptions, SuffixSession
from orchestrator.loop.session import Session
from tests.counts.corpora import corpus_of
from tests.exactness.memoized import MemoizedModel
from tests.exactness.pairs import (
    PROMPT,
    K,
    Sampling,
    memoized_stack,
    remembering_stack,
    sample_pairs,
)
from tests.exactness.sampling_check import ALPHA, is_rejected, p_value, pair_distribution
from tests.stack import LoadedModel, generate

NUM_SAMPLES = 2_000
"""Of the default run: five times as many as the subtlest broken twin is caught with."""
LOOKUP_SAMPLES = 3_000
"""Where most guesses are the model's. A lookup that lies shows after half of them."""
MANY_SAMPLES = 20_000
"""Of the long form of the checks."""

SHAPES = {
    "temperature 1": SamplingParams(temperature=1),
    "temperature 0.7": SamplingParams(temperature=0.7),
    "top-k": SamplingParams(temperature=0.7, top_k=5),
    "top-p": SamplingParams(temperature=1, top_p=0.8),
    "min-p": SamplingParams(temperature=0.7, min_p=0.1),
}
ALL_AT_ONCE = SamplingParams(
    temperature=0.7, top_k=8, top_p=0.95, min_p=0.02, repetition_penalty=1.3
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES)
async def test_pairs_of_tokens_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    params = SHAPES[shape]
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):
        pairs = await sample_pairs(stack, Sampling(params, judge), range(NUM_SAMPLES))
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) > ALPHA


@pytest.mark.timeout(900)
async def test_pairs_are_exact_where_the_draft_scores_a_part_of_its_vocabulary(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    params = SHAPES["temperature 0.7"]
    options = EngineOptions(dtype="float32", device="cpu", head_token_ids=[0, 1, 3, 6, 8, 11])
    small = replace(tiny_draft, model=load_model(tiny_draft.files, options))
    async with memoized_stack(tiny_target, small) as (stack, model):
        pairs = await sample_pairs(stack, Sampling(params, judge), range(NUM_SAMPLES // 2))
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) > ALPHA


class CautiousLookup(SuffixLookup):
    """Broken on purpose: says that its certain guesses were a matter of even chance."""

    def open(self, session: Session) -> SuffixSession:
        return CautiousSession(self, session)


class CautiousSession(SuffixSession):
    def draft(self, session: Session, num_tokens: int) -> list[DraftedToken]:
        even = as_probabilities([0.5, 0.5])
        return [
            DraftedToken(each.token_id, [each.token_id, (each.token_id + 1) % 12], even)
            for each in super().draft(session, num_tokens)
        ]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lookup", [SuffixLookup, CautiousLookup])
async def test_pairs_are_exact_where_lookup_and_model_draft_and_a_twin_that_lies_is_caught(
    lookup: type[SuffixLookup], tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    """The first token is drafted by the model, the second by lookup where the first repeats one."""
    params = SHAPES["temperature 1"]
    draft = replace(tiny_draft, model=MemoizedModel(tiny_draft.model)).proposer()
    lookups = [lookup(SuffixOptions(min_match=1, max_match=8, min_prob=0))]
    async with remembering_stack(tiny_target, draft, lookups=lookups) as (stack, model):
        draw = partial(sample_pairs, stack, Sampling(params, judge))
        expected = pair_distribution(model, PROMPT, params)
        assert await is_rejected(draw, expected, LOOKUP_SAMPLES) == (lookup is CautiousLookup)


class StubbornCounts(CountsLookup):
    """Broken on purpose: always guesses the likeliest token, and says that it drew it."""

    def draft(self, session: Session, num_tokens: int) -> list[DraftedToken]:
        drawn = super().draft(session, num_tokens)
        return [replace(each, token_id=each.support_token_ids[0]) for each in drawn]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("counts", [CountsLookup, StubbornCounts])
async def test_pairs_are_exact_where_counts_are_drawn_from_and_a_twin_that_does_not_draw_is_caught(
    counts: type[CountsLookup], tiny_target: LoadedModel
) -> None:
    params = SHAPES["temperature 1"]
    text = np.random.default_rng(0).integers(2, 12, 300).tolist()  # after any token come all others
    table = build_table(corpus_of(([], text)), 12, BuildOptions(max_context=1))

    lookups = [counts(table, 0.0, 0.0)]
    async with remembering_stack(tiny_target, lookups=lookups) as (stack, model):
        draw = partial(sample_pairs, stack, Sampling(params, judge))
        expected = pair_distribution(model, PROMPT, params)
        assert await is_rejected(draw, expected, NUM_SAMPLES // 2) == (counts is StubbornCounts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("params", [*SHAPES.values(), ALL_AT_ONCE], ids=[*SHAPES, "all at once"])
async def test_pairs_that_clients_get_are_distributed_as_the_target_says(
    params: SamplingParams, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    """Through GenerationService too: the second and third token, which are speculated."""
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):

        async def sample(seeds: range) -> list[tuple[int, ...]]:
            return [
                tuple(
                    (
                        await generate(
                            stack.client,
                            GenerationRequest(
                                PROMPT,
                                GenerationParams(
                                    max_tokens=K + 2,
                                    temperature=params.temperature,
                                    top_k=params.top_k,
                                    top_p=params.top_p,
                                    min_p=params.min_p,
                                    repetition_penalty=params.repetition_penalty,
                                    seed=seed,
                                    num_speculative_tokens=K,
                                    ignore_eos=True,
                                ),
                            ),
                        )
                    ).token_ids
                )
                for seed in seeds
            ]

        outputs = [
            output
            for part in await asyncio.gather(
                *(sample(range(start, MANY_SAMPLES, 8)) for start in range(8))
            )
            for output in part
        ]
        # Given its first token, the rest of each output is a sample of a pair.
        commonest, _ = Counter(output[0] for output in outputs).most_common(1)[0]
        pairs = Counter(output[1:3] for output in outputs if output[0] == commonest)
        first = Counter((output[0], output[1]) for output in outputs)
        assert p_value(first, pair_distribution(model, PROMPT, params)) > ALPHA
        assert p_value(pairs, pair_distribution(model, [*PROMPT, commonest], params)) > ALPHA
