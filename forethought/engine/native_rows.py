"""Rows over a vocabulary in C, on a CPU; see rows.c.

What `filters.py` and `draws.py` do in torch, in the same words.

Shapes: n rows, V tokens in the vocabulary.
"""

from collections.abc import Sequence

import torch

from forethought.engine import kernels
from forethought.engine.blocks import FlatSupports, RowMeasures
from forethought.sampling.params import SamplingParams


def takes(rows: torch.Tensor) -> bool:
    """Whether the extension is built, and the rows are where it can read them."""
    return kernels.are_built and rows.device.type == "cpu" and rows.dtype is torch.float32


def shape(logits: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor | None:
    """Softmax and filters of [n, V], each row by its own parameters, the penalty left out.

    Returns:
        [n, V], or None if a row has logits that are not numbers.
    """
    logits = logits.contiguous()
    probs = torch.empty_like(logits)
    shapes = torch.tensor(
        [(each.temperature, each.top_k, each.top_p, each.min_p) for each in params],
        dtype=torch.float64,
    )  # [n, 4]
    are_numbers = kernels.native.shape(
        logits.data_ptr(), probs.data_ptr(), shapes.data_ptr(), *logits.shape
    )
    return probs if are_numbers else None


def top(probs: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest of each row of [n, V], largest first, of equals those with the smallest ids.

    Returns:
        [n, count] probabilities and [n, count] ids; both 0 where a row has fewer above zero.
    """
    probs = probs.contiguous()
    top_probs = torch.empty(len(probs), count)
    top_ids = torch.empty(len(probs), count, dtype=torch.long)
    kernels.native.top(
        probs.data_ptr(), top_probs.data_ptr(), top_ids.data_ptr(), *probs.shape, count
    )
    return top_probs, top_ids


def measure(
    probs: torch.Tensor, supports: FlatSupports, uniforms: Sequence[float]
) -> RowMeasures:
    """See `blocks.measure_in_blocks`."""
    probs = probs.contiguous()
    num_rows = len(probs)
    draws = torch.tensor(uniforms, dtype=torch.float64)  # [n]
    on_support, tail_masses, tail_probs = (
        torch.empty(count, dtype=torch.float64)
        for count in (len(supports.token_ids), num_rows, num_rows)
    )
    tail_ids, greedy_ids = torch.empty(2, num_rows, dtype=torch.long)
    measures = RowMeasures(on_support, tail_masses, tail_probs, tail_ids, greedy_ids)
    bounds, token_ids = (torch.tensor(each) for each in (supports.bounds, supports.token_ids))
    kernels.native.measure(
        probs.data_ptr(),
        *probs.shape,
        *(each.data_ptr() for each in (bounds, token_ids, draws)),
        *(each.data_ptr() for each in (on_support, tail_masses, tail_probs, tail_ids, greedy_ids)),
    )
    return measures
