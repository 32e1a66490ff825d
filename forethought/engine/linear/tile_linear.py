"""Products in C with matrices that lie in tiles, in the order in which they are used; see groups.c.

A token gets the same numbers, to the last bit, whatever else is in the pass. Dense matrices in
bfloat16 take 0.7 to 0.8 of oneDNN's time for up to 32 tokens, and as long for more; on machines
without bfloat16 instructions a third of it, from four tokens on. Those in float32 take 0.6 to 0.9
of it for up to 8 tokens, and 1.1 for more.
"""

from collections.abc import Sequence
from ctypes import addressof
from dataclasses import dataclass

import torch

from forethought.engine.native import kernels
from forethought.engine.native.structures import GroupMatrix, Product, WeightFormat
from forethought.engine.weights.weight_groups import GROUP_SIZE

_TILE_ROWS = 16
DTYPES = {torch.float32: 0, torch.bfloat16: 1}
"""What the kernels call them."""
_DENSE_FORMATS = {
    torch.bfloat16: WeightFormat.BFLOATS_16,
    torch.float32: WeightFormat.FLOATS_32,
}


@dataclass(frozen=True, slots=True)
class Tiles:
    """A matrix of N rows and K columns, laid out."""

    memory: torch.Tensor  # [N / 16, rounded up, K / 32, bytes]
    format: WeightFormat
    num_rows: int  # N
    num_columns: int  # K
    unit: float = 1.0  # of the factors


class TileLinear:
    """float32 sums, rounded once.

    Args:
        tiles: the matrix.
        bias: [N].
        dtype: of activations.
        result_dtype: of what comes out, if it is another.
    """

    __slots__ = ("_bias", "_tiles", "dtype", "matrix", "num_inputs", "result_dtype")

    def __init__(
        self,
        tiles: Tiles,
        bias: torch.Tensor | None = None,
        dtype: torch.dtype = torch.bfloat16,
        result_dtype: torch.dtype | None = None,
    ) -> None:
        self.num_inputs = tiles.num_columns
        self.dtype = dtype
        self.result_dtype = result_dtype or dtype
        self._tiles = tiles
        self._bias = None if bias is None else bias.float().contiguous()  # [N]
        if bias is not None and bias.shape != (tiles.num_rows,):
            raise ValueError(f"a bias of shape {tuple(bias.shape)} for {tiles.num_rows} rows")
        self.matrix = GroupMatrix(
            format=tiles.format,
            tiles=tiles.memory.data_ptr(),
            unit=tiles.unit,
            bias=0 if self._bias is None else self._bias.data_ptr(),
            n=tiles.num_rows,
            k=tiles.num_columns,
        )
        """As the kernels want it."""

    @staticmethod
    def is_supported() -> bool:
        """Whether the kernels are there."""
        return kernels.are_built

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype is not self.dtype or x.shape[1] != self.num_inputs:
            raise ValueError(f"{x.dtype} of shape {tuple(x.shape)}: not what goes in here")
        x = x.contiguous()
        y = x.new_empty(len(x), self._tiles.num_rows, dtype=self.result_dtype)
        kernels.native.multiply(
            Product(
                matrix=addressof(self.matrix),
                x=x.data_ptr(),
                y=y.data_ptr(),
                x_dtype=DTYPES[self.dtype],
                y_dtype=DTYPES[self.result_dtype],
                num_tokens=len(x),
            )
        )
        return y


class DenseTileLinear(TileLinear):
    """Weights as they are, bfloat16 or float32.

    Args:
        weight: [N, K].
        bias: [N].
        result_dtype: of what comes out, if it is not the weights'.
    """

    __slots__ = ()

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        result_dtype: torch.dtype | None = None,
    ) -> None:
        num_rows, num_columns = weight.shape
        words = weight.contiguous().view(torch.int32)  # [N, K / 2] of bfloat16, [N, K] of float32
        memory = lay_out([words.view(num_rows, num_columns // GROUP_SIZE, -1)])
        own_format = _DENSE_FORMATS[weight.dtype]
        super().__init__(
            Tiles(memory, own_format, num_rows, num_columns), bias, weight.dtype, result_dtype
        )

    @staticmethod
    def takes(weight: torch.Tensor) -> bool:
        """Whether it is of the right format and shape, and the kernels are there."""
        is_whole = weight.shape[1] % GROUP_SIZE == 0
        return kernels.are_built and weight.dtype in _DENSE_FORMATS and is_whole


def lay_out(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The memory of tiles: of each row, what is side by side in a part alternates with that of the
    other rows.

    Args:
        parts: [N, K / 32, items of any size] each, in the order in which a tile has them.

    Returns:
        [N / 16, rounded up, K / 32, bytes].
    """
    num_rows, num_groups = parts[0].shape[:2]
    num_blocks = -(-num_rows // _TILE_ROWS)
    sizes = [_TILE_ROWS * part.element_size() * part.shape[-1] for part in parts]
    # Before all that is temporary, so that no holes are left between what stays.
    memory = torch.empty(num_blocks, num_groups, sum(sizes), dtype=torch.uint8)
    for part, place in zip(parts, torch.split(memory, sizes, dim=-1), strict=True):
        missing = part.new_zeros(-num_rows % _TILE_ROWS, *part.shape[1:])
        rows = torch.cat([part, missing]) if len(missing) else part
        blocks = rows.view(num_blocks, _TILE_ROWS, num_groups, -1).permute(0, 2, 3, 1)
        place.view(part.dtype).view(blocks.shape).copy_(blocks)
    return memory
