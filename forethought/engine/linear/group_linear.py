"""Products with matrices in groups of 4 and 8 bits.

Our kernel, see groups.c, takes the factors as ggml stores them, in float16, and gives a token the
same numbers whatever else is in the pass. For installations without a C compiler, there is one for
4 bits that torch calls `int4pack`. It rounds factors to the format of its activations, works on
blocks of 4 tokens, and is vectorised for bfloat16 only (in float32 it takes 30 times longer).
"""

import torch

from forethought.engine.linear.linear import Linear
from forethought.engine.linear.tile_linear import TileLinear, Tiles, lay_out
from forethought.engine.native.structures import WeightFormat
from forethought.engine.weights.weight_groups import GROUP_SIZE, Int4Groups, Int8Groups

_TILE_ROWS = 16
_LARGEST_EXPONENT = 15  # of a float16, as frexp counts


def int4_linear(groups: Int4Groups, bias: torch.Tensor | None = None) -> Linear | None:
    """The faster kernel that there is; None if it does not take a matrix of this shape."""
    if GroupLinear.is_supported():
        return GroupLinear(groups, bias)
    if Int4PackLinear.supports(*groups.shape):
        return Int4PackLinear(groups, bias)
    return None


class GroupLinear(TileLinear):
    """Sums of exact products.

    Args:
        groups: the matrix.
        bias: [N].
        dtype: of activations, float32 or bfloat16; the latter only with 4 bits.
        result_dtype: of what comes out, if it is another.
    """

    __slots__ = ()

    def __init__(
        self,
        groups: Int4Groups | Int8Groups,
        bias: torch.Tensor | None = None,
        dtype: torch.dtype = torch.bfloat16,
        result_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(_tiles_of(groups), bias, dtype, result_dtype)


def _factors_of(groups: Int4Groups | Int8Groups) -> torch.Tensor:
    """[N, K / 32, 1 or 2] float32: scales, and minimums where there are any."""
    if isinstance(groups, Int8Groups):
        return groups.scales[..., None]
    return torch.stack([groups.scales, groups.minimums], dim=-1)


def _unit_of(groups: Int4Groups | Int8Groups) -> float:
    """The power of two to count factors in, so that float16 holds the largest, and small ones with
    all of their digits. Those of ggml stay the numbers that they are."""
    largest = _factors_of(groups).abs().amax()
    return float(2.0 ** (torch.frexp(largest).exponent - _LARGEST_EXPONENT))


def _tiles_of(groups: Int4Groups | Int8Groups) -> Tiles:
    """`Tile4` or `Tile8` of groups.h: four or two bytes of each row at a time, then factors."""
    num_rows, num_columns = groups.shape
    if isinstance(groups, Int4Groups):
        items = groups.pairs.view(torch.int32)  # [N, K / 32, 4]
    else:
        items = groups.values.view(num_rows, -1, GROUP_SIZE).view(torch.int16)  # [N, K / 32, 16]
    unit = _unit_of(groups)
    memory = lay_out([items, (_factors_of(groups) / unit).half()])
    is_int4 = isinstance(groups, Int4Groups)
    own_format = WeightFormat.GROUPS_4 if is_int4 else WeightFormat.GROUPS_8
    return Tiles(memory, own_format, num_rows, num_columns, unit)


class Int4PackLinear:
    """torch's kernel: (value - 8) * scale + offset, so offset = minimum + 8 scales."""

    __slots__ = ("_bias", "_factors", "_weight", "dtype", "num_inputs")

    def __init__(
        self,
        groups: Int4Groups,
        bias: torch.Tensor | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.dtype = dtype
        self.num_inputs = groups.shape[1]
        self._weight = torch._convert_weight_to_int4pack_for_cpu(  # noqa: SLF001
            groups.values.int(), 1
        )
        offsets = groups.minimums + 8 * groups.scales  # [N, K / 32]
        factors = torch.stack([groups.scales, offsets], dim=-1)  # [N, K / 32, 2]
        self._factors = factors.transpose(0, 1).to(dtype).contiguous()  # [K / 32, N, 2]
        self._bias = bias

    @staticmethod
    def supports(num_rows: int, num_columns: int) -> bool:
        """Whether the kernel takes a matrix of this shape."""
        return num_rows % _TILE_ROWS == 0 and num_columns % GROUP_SIZE == 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = torch._weight_int4pack_mm_for_cpu(  # noqa: SLF001
            x, self._weight, GROUP_SIZE, self._factors
        )
        return y if self._bias is None else y.add_(self._bias)
