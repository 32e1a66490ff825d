"""Block verification and coupled sampling through a running deployment.

The distribution of samples, and for blocks how many guesses are accepted. `test_broken_modes.py`
shows that the same checks notice mistakes.
"""

from collections import Counter
from itertools import accumulate
from operator import mul

import numpy as np
import pytest

from forethought.sampling.block import judge_block
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import VerificationMode
from tests.exactness.memoized import MemoizedModel
from tests.exactness.pairs import (
    BLOCK_PROMPT,
    MAX_SUPPORT,
    PROMPT,
    K,
    Sample,
    Sampling,
    memoized_stack,
    sample_by_rounds,
    sample_by_seeds,
)
from tests.exactness.sampling_check import (
    ALPHA,
    p_value,
    pair_distribution,
    target_distribution,
)
from tests.exactness.test_sampled_distribution import ALL_AT_ONCE, MANY_SAMPLES, NUM_SAMPLES, SHAPES
from tests.stack import LoadedModel

EVERY_SHAPE = {**SHAPES, "all at once": ALL_AT_ONCE}
SAID_BRIEFLY = ["temperature 1", "all at once"]
BLOCK_SAMPLES = 3_000
"""Twice as many as the subtlest broken judge of blocks is caught with."""
ROUND_SAMPLES = 4_000
"""Enough for what blocks accept more to be five of its standard errors."""


def block(params: SamplingParams) -> Sampling:
    return Sampling(params, judge_block, VerificationMode.BLOCK)


def coupled(params: SamplingParams) -> Sampling:
    return Sampling(params, judge_coupled, VerificationMode.COUPLED)


def first_of_neighbours(samples: list[Sample]) -> Counter[tuple[int, int]]:
    """The first tokens of two seeds that follow each other."""
    firsts = [sample.pair[0] for sample in samples]
    return Counter(zip(firsts[::2], firsts[1::2], strict=True))


def two_independent(p: np.ndarray) -> dict[tuple[int, int], float]:
    """Probability of each pair of draws from the same distribution."""
    likely = np.flatnonzero(p)
    return {(int(a), int(b)): float(p[a] * p[b]) for a in likely for b in likely}


async def block_pairs_are_the_targets(
    target: LoadedModel, draft: LoadedModel, shape: str, num_samples: int
) -> None:
    params = EVERY_SHAPE[shape]
    async with memoized_stack(target, draft) as (stack, model):
        samples = await sample_by_rounds(stack, block(params), range(num_samples))
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(Counter(sample.pair for sample in samples), expected) > ALPHA


async def coupled_pairs_are_the_targets(
    target: LoadedModel, draft: LoadedModel, shape: str, num_samples: int
) -> None:
    params = EVERY_SHAPE[shape]
    async with memoized_stack(target, draft) as (stack, model):
        samples = await sample_by_seeds(stack, coupled(params), range(num_samples))
        expected = pair_distribution(model, PROMPT, params)
        neighbours = two_independent(target_distribution(model, PROMPT, params))
    assert p_value(Counter(sample.pair for sample in samples), expected) > ALPHA
    assert p_value(first_of_neighbours(samples), neighbours) > ALPHA


@pytest.mark.parametrize("shape", SAID_BRIEFLY)
async def test_pairs_judged_by_blocks_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    await block_pairs_are_the_targets(tiny_target, tiny_draft, shape, BLOCK_SAMPLES)


@pytest.mark.parametrize("shape", SAID_BRIEFLY)
async def test_coupled_pairs_of_many_seeds_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    await coupled_pairs_are_the_targets(tiny_target, tiny_draft, shape, NUM_SAMPLES // 2)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shape", EVERY_SHAPE)
async def test_many_pairs_of_both_modes_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    await block_pairs_are_the_targets(tiny_target, tiny_draft, shape, MANY_SAMPLES)
    await coupled_pairs_are_the_targets(tiny_target, tiny_draft, shape, MANY_SAMPLES)


async def test_blocks_accept_more_than_rejection_sampling_and_both_as_computed_beforehand(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    """Both judge the same drafts with the same draws, so their difference is far from chance."""
    params = SamplingParams(temperature=1)
    async with memoized_stack(tiny_target, tiny_draft) as (stack, target):
        draft = MemoizedModel(tiny_draft.model)
        draft.allocate(1)
        expected = expected_accepted(target, draft, params, BLOCK_PROMPT)
        accepted = []
        for how in (judge, judge_block):
            sampling = Sampling(params, how, prompt=BLOCK_PROMPT)
            samples = await sample_by_rounds(stack, sampling, range(ROUND_SAMPLES))
            accepted.append(np.array([sample.num_accepted_tokens for sample in samples]))
    for sampled, computed in zip(accepted, expected, strict=True):
        assert abs(sampled.mean() - computed) < 4 * standard_error(sampled)
    more = accepted[1] - accepted[0]
    assert more.mean() > 4 * standard_error(more)


def standard_error(values: np.ndarray) -> float:
    """Of the mean."""
    return float(values.std() / len(values) ** 0.5)


def expected_accepted(
    target: MemoizedModel, draft: MemoizedModel, params: SamplingParams, prompt: tuple[int, ...]
) -> tuple[float, float]:
    """Mean accepted guesses of a round, by rejection sampling and by blocks, over all drafts."""
    by_rejection = by_blocks = 0.0
    for chance, ps, qs, guesses in _all_drafts(target, draft, params, prompt):
        ratios = [min(1, p[x] / q[x]) for p, q, x in zip(ps, qs, guesses, strict=False)]
        by_rejection += chance * sum(accumulate(ratios, mul))
        weights = [1.0]
        for p, q, x in zip(ps, qs, guesses, strict=False):
            weights.append(min(1, weights[-1] * p[x] / q[x]))
        kept = []  # the chance that a beginning of 1 to K guesses is kept
        for weight, p, q in zip(weights[1:K], ps[1:], qs[1:], strict=True):
            left = np.maximum(weight * p - q, 0).sum()
            kept.append(left / (left + 1 - weight))
        dropped = [1 - each for each in (*kept, weights[K])]
        # At least i are accepted unless the beginnings of i guesses and more are all dropped.
        by_blocks += chance * sum(1 - np.prod(dropped[i:]) for i in range(K))
    return by_rejection, by_blocks


def _all_drafts(
    target: MemoizedModel, draft: MemoizedModel, params: SamplingParams, prompt: tuple[int, ...]
) -> list[tuple[float, list[np.ndarray], list[np.ndarray], list[int]]]:
    """Every draft with its chance, p and q ([V] each) at its K positions, and its guesses."""
    drafts: list[tuple[float, list[np.ndarray], list[np.ndarray], list[int]]] = [(1.0, [], [], [])]
    for _ in range(K):
        longer = []
        for chance, ps, qs, guesses in drafts:
            prefix = [*prompt, *guesses]
            p, q = (target_distribution(model, prefix, params) for model in (target, draft))
            q[np.argsort(-q)[MAX_SUPPORT:]] = 0
            q /= q.sum()
            longer += [
                (chance * q[x], [*ps, p], [*qs, q], [*guesses, int(x)]) for x in np.flatnonzero(q)
            ]
        drafts = longer
    return drafts
