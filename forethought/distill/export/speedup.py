"""What a draft's acceptance is worth on this machine, from measured passes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from operator import mul
from statistics import median

import torch

from forethought.distill.drafts.feature_draft import FeatureDraft
from forethought.distill.drafts.llama_draft import LlamaDraft
from forethought.engine.linear.linear import dense_linear
from forethought.engine.loading.pass_timing import PassShape, time_passes
from forethought.engine.model.causal_model import CausalModel

_CONTEXT = 256  # tokens before a round
_NUM_REPEATS = 20


@dataclass(frozen=True, slots=True)
class PassCosts:
    """Medians, milliseconds."""

    target_ms: Sequence[float]  # of passes over 1, 2, ... tokens
    draft_ms: float  # of one drafted token: its products alone, which a good engine comes near to


@dataclass(frozen=True, slots=True)
class Prediction:
    """Of rounds with K drafted tokens."""

    num_speculative_tokens: int  # K
    tokens_per_round: float  # the recovered or bonus token included
    speed_up: float  # over plain decoding, without queues, network and sampling


def measure_costs(target: CausalModel, draft: FeatureDraft | LlamaDraft, max_k: int) -> PassCosts:
    """Times the target's passes over 1 to max_k + 1 tokens, and the draft's products.

    Takes over the target's cache.
    """
    shapes = [PassShape(num_tokens, 1, _CONTEXT) for num_tokens in range(1, max_k + 2)]
    times = time_passes(target, shapes, _NUM_REPEATS)
    return PassCosts([each.pass_ms for each in times], _time(_products(draft)))


def predict(acceptance: Sequence[float], costs: PassCosts) -> list[Prediction]:
    """For K = 1, 2, ...: what rounds would bring.

    Args:
        acceptance: of each drafted position, given that those before it are accepted.
        costs: at least for as many.
    """
    predictions = []
    for k in range(1, len(acceptance) + 1):
        tokens = 1 + sum(accumulate(acceptance[:k], mul))
        round_ms = costs.target_ms[k] + k * costs.draft_ms
        predictions.append(Prediction(k, tokens, tokens * costs.target_ms[0] / round_ms))
    return predictions


def _products(draft: FeatureDraft | LlamaDraft) -> list[Callable[[], torch.Tensor]]:
    matrices = [each.detach() for each in draft.parameters() if each.ndim == 2]
    return [
        partial(dense_linear(each.bfloat16()), torch.ones(1, each.shape[1], dtype=torch.bfloat16))
        for each in (*matrices, draft.head)
    ]


@torch.inference_mode()
def _time(products: Sequence[Callable[[], torch.Tensor]]) -> float:
    times = []
    for _ in range(_NUM_REPEATS):
        started = time.perf_counter()
        for multiply in products:
            multiply()
        times.append((time.perf_counter() - started) * 1000)
    return median(times)
