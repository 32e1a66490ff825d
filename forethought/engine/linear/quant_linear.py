"""Products in C with the tensors of GGUF files, the numbers of the file as they are.

Tensors are laid out once, 16 rows side by side, in as many bits as the file has; see quants.c. A
matrix may be made of tensors of different kinds, as most files have them.
"""

from collections.abc import Sequence

import numpy as np
import torch

from forethought.engine.linear.tile_linear import TileLinear, Tiles
from forethought.engine.native import kernels
from forethought.engine.native.structures import (
    MOST_QUANT_PARTS,
    QuantPart,
    QuantParts,
    QuantTensor,
    WeightFormat,
)
from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.gguf_formats import STORED_KINDS

_TILE_ROWS = 16


class QuantLinear(TileLinear):
    """float32 in and out.

    Args:
        tensors: of K columns each, whose rows follow one another in the matrix; three at most.
        bias: [N].
        keeps_floats: sums are those of the dequantised weights with activations in float32.
            Otherwise activations are rounded to 8 bits, in groups of 32, for all tensors but
            those of floats.

    Raises:
        ValueError: tensors of different widths, or a bias of another length.
    """

    __slots__ = ("_memory",)

    def __init__(
        self,
        tensors: Sequence[GGUFTensor],
        bias: torch.Tensor | None = None,
        *,
        keeps_floats: bool = False,
    ) -> None:
        widths = {tensor.shape[1] for tensor in tensors}
        if len(widths) != 1 or len(tensors) > MOST_QUANT_PARTS:
            raise ValueError(f"no matrix is made of {[tensor.shape for tensor in tensors]}")
        self._memory = [_lay_out(tensor) for tensor in tensors]
        parts = QuantParts(num_parts=len(tensors), keeps_floats=keeps_floats)
        for index, (tensor, tiles) in enumerate(zip(tensors, self._memory, strict=True)):
            kind = STORED_KINDS.index(tensor.kind)
            parts.parts[index] = QuantPart(kind, tiles.data_ptr(), tensor.shape[0])
        super().__init__(
            Tiles(
                torch.frombuffer(bytearray(parts), dtype=torch.uint8),
                WeightFormat.QUANTISED,
                num_rows=sum(tensor.shape[0] for tensor in tensors),
                num_columns=widths.pop(),
            ),
            bias,
            torch.float32,
        )


def _lay_out(tensor: GGUFTensor) -> torch.Tensor:
    """The memory of its tiles: [N / 16, rounded up, bytes]."""
    num_rows, num_columns = tensor.shape
    blocks = np.ascontiguousarray(tensor.data)
    own = QuantTensor(
        kind=STORED_KINDS.index(tensor.kind),
        blocks=blocks.ctypes.data,
        rows=num_rows,
        k=num_columns,
    )
    num_blocks = -(-num_rows // _TILE_ROWS)
    tiles = torch.empty(num_blocks, kernels.native.quant_block_bytes(own), dtype=torch.uint8)
    own.tiles = tiles.data_ptr()
    kernels.native.lay_out_quants(own)
    return tiles
