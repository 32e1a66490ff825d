"""Rows over a vocabulary in C, on a CPU; see rows.c.

The same functions as in `torch_rows.py`. Their results are equal but for rounding, and but for
which of several equals are the top ones.

Shapes: n rows, V tokens in the vocabulary.
"""

from array import array
from collections.abc import Sequence
from ctypes import addressof
from typing import Any

import torch

from forethought.engine.native import kernels
from forethought.engine.native.structures import Choice, Measuring, Shape, Shaping, Top
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
    num_rows, num_tokens = logits.shape
    shapes = (Shape * num_rows)(
        *(Shape(each.temperature, each.top_k, each.top_p, each.min_p) for each in params)
    )
    has_others = kernels.native.shape(
        Shaping(
            logits=logits.data_ptr(),
            probs=probs.data_ptr(),
            shapes=addressof(shapes),
            rows=num_rows,
            n=num_tokens,
        )
    )
    return None if has_others else probs


def top(probs: torch.Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    """The largest of each row of [n, V], largest first, of equals those with the smallest ids.

    Returns:
        [n, count] probabilities and [n, count] ids; both 0 where a row has fewer above zero.
    """
    probs = probs.contiguous()
    num_rows, num_tokens = probs.shape
    top_probs, top_ids = _room("d", num_rows * count), _room("q", num_rows * count)
    kernels.native.top(
        Top(
            probs=probs.data_ptr(),
            top_probs=_address(top_probs),
            top_ids=_address(top_ids),
            rows=num_rows,
            n=num_tokens,
            count=count,
        )
    )
    ends = range(count, num_rows * count + 1, count)
    return (
        [top_probs[end - count : end].tolist() for end in ends],
        [top_ids[end - count : end].tolist() for end in ends],
    )


def choose(probs: torch.Tensor, keys: Sequence[int]) -> Sequence[int]:
    """As `torch_rows.choose` does."""
    probs = probs.contiguous()
    num_rows, num_tokens = probs.shape
    own_keys, ids = array("Q", keys), _room("q", num_rows)
    kernels.native.choose(
        Choice(
            probs=probs.data_ptr(),
            keys=_address(own_keys),
            ids=_address(ids),
            rows=num_rows,
            n=num_tokens,
        )
    )
    return ids


def measure(probs: torch.Tensor, supports: FlatSupports, uniforms: Sequence[float]) -> RowMeasures:
    """As `torch_rows.measure` does."""
    own_uniforms = array("d", uniforms)
    return _measured(probs, supports, Measuring(uniforms=_address(own_uniforms)))


def measure_coupled(
    probs: torch.Tensor, supports: FlatSupports, keys: Sequence[int]
) -> RowMeasures:
    """As `torch_rows.measure_coupled` does."""
    own_keys = array("Q", keys)
    return _measured(probs, supports, Measuring(keys=_address(own_keys)))


def _measured(probs: torch.Tensor, supports: FlatSupports, measuring: Measuring) -> RowMeasures:
    """`measuring`: has the uniforms or else the keys that choose the tail tokens."""
    probs = probs.contiguous()
    num_rows, num_tokens = probs.shape
    bounds, token_ids = array("q", supports.bounds), array("q", supports.token_ids)
    on_support = _room("d", len(supports.token_ids))
    tail_masses, tail_probs = _room("d", num_rows), _room("d", num_rows)
    tail_ids, greedy_ids = _room("q", num_rows), _room("q", num_rows)
    measuring.probs = probs.data_ptr()
    measuring.rows, measuring.n = num_rows, num_tokens
    measuring.bounds, measuring.supports = _address(bounds), _address(token_ids)
    measuring.on_support = _address(on_support)
    measuring.tail_masses, measuring.tail_probs = _address(tail_masses), _address(tail_probs)
    measuring.tail_ids, measuring.greedy_ids = _address(tail_ids), _address(greedy_ids)
    kernels.native.measure(measuring)
    return RowMeasures(as_probabilities(on_support), tail_masses, tail_probs, tail_ids, greedy_ids)


def _room(kind: str, count: int) -> "array[Any]":
    """Numbers of 8 bytes to be filled in; cheaper to make than a tensor, and to read."""
    return array(kind, bytes(8 * count))


def _address(numbers: "array[Any]") -> int:
    return numbers.buffer_info()[0]
