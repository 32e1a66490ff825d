"""Rows over a vocabulary in C, on a CPU; see rows.c.

The same functions as in `torch_rows.py`. Their results are equal but for rounding, and but for
which of several equals are the top ones.

Shapes: n rows, V tokens in the vocabulary.
"""

from array import array
from collections.abc import Sequence
from typing import Any

import torch

from forethought.engine.native import kernels
from forethought.engine.rows.row_measures import FlatSupports, RowMeasures
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import as_probabilities


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
    shapes = array("d")  # [n, 4]
    for each in params:
        shapes.extend((each.temperature, each.top_k, each.top_p, each.min_p))
    are_numbers = kernels.native.shape(
        logits.data_ptr(), probs.data_ptr(), _address(shapes), *logits.shape
    )
    return probs if are_numbers else None


def top(probs: torch.Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    """The largest of each row of [n, V], largest first, of equals those with the smallest ids.

    Returns:
        [n, count] probabilities and [n, count] ids; both 0 where a row has fewer above zero.
    """
    probs = probs.contiguous()
    num_rows, num_tokens = probs.shape
    top_probs, top_ids = _room("d", num_rows * count), _room("q", num_rows * count)
    kernels.native.top(
        probs.data_ptr(), _address(top_probs), _address(top_ids), num_rows, num_tokens, count
    )
    ends = range(count, num_rows * count + 1, count)
    return (
        [top_probs[end - count : end].tolist() for end in ends],
        [top_ids[end - count : end].tolist() for end in ends],
    )


def choose(probs: torch.Tensor, keys: Sequence[int]) -> Sequence[int]:
    """As `torch_rows.choose` does."""
    probs = probs.contiguous()
    own_keys, ids = array("Q", keys), _room("q", len(probs))
    kernels.native.choose(probs.data_ptr(), _address(own_keys), _address(ids), *probs.shape)
    return ids


def measure(probs: torch.Tensor, supports: FlatSupports, uniforms: Sequence[float]) -> RowMeasures:
    """As `torch_rows.measure` does."""
    own_uniforms = array("d", uniforms)
    return _measured(probs, supports, (_address(own_uniforms), 0))


def measure_coupled(
    probs: torch.Tensor, supports: FlatSupports, keys: Sequence[int]
) -> RowMeasures:
    """As `torch_rows.measure_coupled` does."""
    own_keys = array("Q", keys)
    return _measured(probs, supports, (0, _address(own_keys)))


def _measured(
    probs: torch.Tensor, supports: FlatSupports, choosing: tuple[int, int]
) -> RowMeasures:
    """`choosing`: where the uniforms are or else the keys that choose the tail tokens."""
    probs = probs.contiguous()
    num_rows = len(probs)
    asked = (array("q", supports.bounds), array("q", supports.token_ids))
    on_support = _room("d", len(supports.token_ids))
    tail_masses, tail_probs = _room("d", num_rows), _room("d", num_rows)
    tail_ids, greedy_ids = _room("q", num_rows), _room("q", num_rows)
    found = (on_support, tail_masses, tail_probs, tail_ids, greedy_ids)
    addresses = (*map(_address, asked), *choosing, *map(_address, found))
    kernels.native.measure(probs.data_ptr(), *probs.shape, *addresses)
    return RowMeasures(as_probabilities(on_support), tail_masses, tail_probs, tail_ids, greedy_ids)


def _room(kind: str, count: int) -> "array[Any]":
    """Numbers of 8 bytes to be filled in; cheaper to make than a tensor, and to read."""
    return array(kind, bytes(8 * count))


def _address(numbers: "array[Any]") -> int:
    return numbers.buffer_info()[0]
