"""What the target says two tokens should be, and whether samples agree.

The expectation shares no code with the tiers: logits of the model, shaped by transformers' own
logits processors, multiplied in double precision.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from forethought.sampling.params import SamplingParams
from tests.exactness.memoized import MemoizedModel

ALPHA = 1e-4
"""Chance that a faithful stack is rejected, for one seed. The seeds of the tests are fixed."""
MIN_EXPECTED = 5.0
"""Cells that expect fewer samples are counted together, as the chi-squared test demands."""


def target_distribution(
    model: MemoizedModel, prefix: Sequence[int], params: SamplingParams
) -> np.ndarray:
    """[V] probabilities of the next token, by transformers' processors."""
    processors = LogitsProcessorList()
    if params.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    processors.append(TemperatureLogitsWarper(float(params.temperature)))
    if params.top_k:
        processors.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        processors.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        processors.append(MinPLogitsWarper(params.min_p))
    logits = processors(torch.tensor([list(prefix)]), model.row(tuple(prefix))[None].clone())
    return logits[0].double().softmax(dim=-1).numpy()


def pair_distribution(
    model: MemoizedModel, prompt: Sequence[int], params: SamplingParams
) -> dict[tuple[int, int], float]:
    """Probability of each pair of next tokens that is possible."""
    first = target_distribution(model, prompt, params)
    pairs = {}
    for a in np.flatnonzero(first):
        second = target_distribution(model, [*prompt, int(a)], params)
        for b in np.flatnonzero(second):
            pairs[int(a), int(b)] = float(first[a] * second[b])
    return pairs


async def is_rejected(
    draw: Callable[[range], Awaitable[Counter[tuple[int, int]]]],
    expected: dict[tuple[int, int], float],
    num_samples: int,
) -> bool:
    """Whether samples are not distributed as expected.

    Looks after an eighth, a quarter and half of the samples, too, and ends as soon as it sees it:
    something broken is found early. What is faithful is rejected with a chance of 4 `ALPHA`.
    """
    samples: Counter[tuple[int, int]] = Counter()
    ends = [num_samples // 8, num_samples // 4, num_samples // 2, num_samples]
    for start, end in pairwise([0, *ends]):
        samples += await draw(range(start, end))
        if p_value(samples, expected) < ALPHA:
            return True
    return False


def p_value(samples: Counter[tuple[int, int]], expected: dict[tuple[int, int], float]) -> float:
    """Of the chi-squared test that the samples come from the expected distribution.

    0 when a sample is impossible.
    """
    if set(samples) - set(expected):
        return 0.0
    total = samples.total()
    observed_cells, expected_cells = [], []
    rare_observed = rare_expected = 0.0
    for pair, probability in expected.items():
        if probability * total < MIN_EXPECTED:
            rare_observed += samples[pair]
            rare_expected += probability * total
        else:
            observed_cells.append(samples[pair])
            expected_cells.append(probability * total)
    if rare_expected:
        observed_cells.append(rare_observed)
        expected_cells.append(rare_expected)
    scale = total / sum(expected_cells)
    return float(chisquare(observed_cells, np.array(expected_cells) * scale).pvalue)
