"""A block's keys and values as one row of numbers, to be kept outside the pool.

    layer 0                       layer 1
    keys [J, D, 16]  values [J, 16, D]  keys ...

Layer after layer as they lie in the pool, row-major, nothing between them: N numbers in all. Only a
model with the same weights can use them, and only code that computes in the same way: two engines
rotate and round differently. So the layout's name says whose it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from forethought.engine.model.attention import KVShape, LayerPool

Numbers = npt.NDArray[Any]
"""[N] float32, or uint16 with the bits of float16 or bfloat16."""

LAYOUT_VERSION = 1
"""Of what stands above. Another one is another layout."""


@dataclass(frozen=True, slots=True)
class KVLayout:
    """What the blocks of one model on one engine have in common."""

    engine_name: str
    dtype: torch.dtype  # of keys and values; not always that of the weights
    shapes: Sequence[KVShape]  # of each layer

    @property
    def name(self) -> str:
        """For example "lean-7 1: 30 x 3.64.64": engine, version, and layers with J and sizes of key
        and value."""
        runs = [
            f"{len(list(group))} x {shape.num_kv_heads}.{shape.key_dim}.{shape.value_dim}"
            for shape, group in groupby(self.shapes)
        ]
        return f"{self.engine_name} {LAYOUT_VERSION}: {', '.join(runs)}"

    @property
    def dtype_name(self) -> str:
        """For example "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def num_bytes(self) -> int:
        """Size of a block."""
        return sum(shape.block_bytes(self.dtype) for shape in self.shapes)

    @property
    def shape(self) -> tuple[int]:
        """(N,): the layers of a model need not be alike."""
        return (self.num_bytes // self.dtype.itemsize,)


class BlockAccess:
    """Reads and writes the blocks of a pool.

    Args:
        pools: of all layers, in order, on one device. None, if nothing is allocated.
    """

    def __init__(self, pools: Sequence[LayerPool]) -> None:
        rows = [part.flatten(1) for pool in pools for part in (pool.keys, pool.values)]
        bounds = pairwise(accumulate((row.shape[1] for row in rows), initial=0))
        self._rows = rows  # [blocks, numbers of this part] each
        self._spans = [slice(*bound) for bound in bounds]
        self._device = rows[0].device if rows else torch.device("cpu")
        # numpy copies small pieces several times as fast as torch.
        self._arrays = [_bits(row) for row in rows] if self._device.type == "cpu" else None

    def read(self, block_id: int) -> Numbers:
        """A copy of its numbers, [N]."""
        if self._arrays is None:
            return _bits(torch.cat([row[block_id] for row in self._rows]).cpu())
        return np.concatenate([array[block_id] for array in self._arrays])

    def write(self, block_id: int, numbers: Numbers) -> None:
        """Puts [N] numbers into a block."""
        if self._arrays is not None:
            for array, span in zip(self._arrays, self._spans, strict=True):
                array[block_id] = numbers[span]
            return
        # torch refuses memory that it may not write to.
        own = torch.from_numpy(numbers.copy()).to(self._device).view(self._rows[0].dtype)
        for row, span in zip(self._rows, self._spans, strict=True):
            row[block_id] = own[span]


def _bits(numbers: torch.Tensor) -> Numbers:
    """The same memory for numpy, which has no bfloat16."""
    if numbers.dtype is torch.float32:
        return numbers.numpy()
    return numbers.view(torch.int16).numpy().view(np.uint16)
