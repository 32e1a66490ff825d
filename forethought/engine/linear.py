"""Products with the weights of a model, in the number formats that they can have on a CPU.

With few tokens in a pass, a product takes as long as its weights take to arrive from memory, so
fewer bits are more speed. What the kernels are made for decides the rest:

- dense matrices are laid out once as oneDNN wants them. A product straight from row-major bfloat16
  takes twice the time, and returns the same numbers.
- 4 bits use the kernel that torch calls `int4pack`. It is vectorised for bfloat16 activations and
  scales only (in float32 it takes 30 times longer), and works on blocks of 4 tokens.
- 8 bits in groups, as GGUF files have them, are multiplied in C; see kernels.c.
- 8 bits with one scale a row use `int8pack`. With more than one token a pass the dense product is
  faster; what remains is half of the memory.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch.nn import functional

from forethought.engine import kernels
from forethought.engine.weight_groups import GROUP_SIZE, Int4Groups, Int8Groups

_INT4_ROW_BLOCK = 16  # rows that the kernel takes at a time
_KERNEL_DTYPES: dict[torch.dtype, str] = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}


class Linear(Protocol):
    """y = x W^T + b for W of [N, K]."""

    @property
    def dtype(self) -> torch.dtype:
        """Of activations that go in and come out."""
        ...

    @property
    def num_inputs(self) -> int:
        """K."""
        ...

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, K] -> [T, N]."""
        ...


class DenseLinear:
    """Weights as they are."""

    __slots__ = ("_bias", "_weight", "dtype", "num_inputs")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.dtype = weight.dtype
        self.num_inputs = weight.shape[1]
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._weight, self._bias)


class PackedLinear:
    """Dense weights in oneDNN's own order of this machine."""

    __slots__ = ("_bias", "_weight", "dtype", "num_inputs")

    _multiply: Callable[..., torch.Tensor] = staticmethod(
        torch.ops.mkldnn._linear_pointwise.default  # noqa: SLF001
    )

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.dtype = weight.dtype
        self.num_inputs = weight.shape[1]
        # A plain tensor: oneDNN's may not hold one that was made in inference mode.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)  # noqa: SLF001
        self._bias = bias

    @staticmethod
    def supports(dtype: torch.dtype) -> bool:
        """Whether this machine and build have kernels for it."""
        if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            return False
        question = _KERNEL_DTYPES.get(dtype)
        return question is None or bool(getattr(torch.ops.mkldnn, question)())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._multiply(x, self._weight, self._bias, "none", [], "")


class Int4Linear:
    """Groups of 32. In bfloat16, scales are rounded to it as dense weights would be.

    The kernel computes (value - 8) * scale + offset, so offset = minimum + 8 scales.
    """

    __slots__ = ("_bias", "_factors", "_weight", "dtype", "num_inputs")

    def __init__(
        self,
        groups: Int4Groups,
        bias: torch.Tensor | None = None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.dtype = dtype
        self.num_inputs = groups.values.shape[1]
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
        return num_rows % _INT4_ROW_BLOCK == 0 and num_columns % GROUP_SIZE == 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = torch._weight_int4pack_mm_for_cpu(  # noqa: SLF001
            x, self._weight, GROUP_SIZE, self._factors
        )
        return y if self._bias is None else y.add_(self._bias)


class Int8GroupsLinear:
    """Groups of 32, float32 activations."""

    __slots__ = ("_bias", "_groups", "dtype", "num_inputs")

    def __init__(self, groups: Int8Groups, bias: torch.Tensor | None = None) -> None:
        self.dtype = torch.float32
        self.num_inputs = groups.values.shape[1]
        self._groups = groups
        self._bias = bias

    @staticmethod
    def is_supported() -> bool:
        """Whether the kernel is there."""
        return kernels.are_built

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        num_rows, num_columns = self._groups.values.shape
        x = x.contiguous()
        y = x.new_empty(len(x), num_rows)
        kernels.native.multiply(
            x.data_ptr(),
            self._groups.values.data_ptr(),
            self._groups.scales.data_ptr(),
            y.data_ptr(),
            len(x),
            num_rows,
            num_columns,
        )
        return y if self._bias is None else y.add_(self._bias)


class Int8Linear:
    """Signed bytes with one scale a row, bfloat16 activations."""

    __slots__ = ("_bias", "_scales", "_weight", "dtype", "num_inputs")

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.dtype = torch.bfloat16
        self.num_inputs = weight.shape[1]
        largest = weight.float().abs().amax(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        # Rounded first, so that the bytes fit the scale that the kernel will use.
        self._scales = (largest / 127).to(self.dtype)  # [N]
        steps = weight.float() / self._scales.float()[:, None]
        self._weight = steps.round_().clamp_(-127, 127).to(torch.int8)  # [N, K]
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = torch._weight_int8pack_mm(x, self._weight, self._scales)  # noqa: SLF001
        return y if self._bias is None else y.add_(self._bias)


def dense_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The fastest there is for dense weights on this machine."""
    kind = PackedLinear if PackedLinear.supports(weight.dtype) else DenseLinear
    return kind(weight, bias)
