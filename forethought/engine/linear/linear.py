"""Products with the weights of a model, in the number formats that they can have on a CPU.

With few tokens in a pass, a product takes as long as its weights take to arrive from memory, so
fewer bits are more speed. What the kernels are made for decides the rest:

- dense matrices in bfloat16 and float32 are multiplied in C, see tile_linear.py. Others, and all
  where there is no C, are laid out once as oneDNN wants them: a product straight from row-major
  bfloat16 takes twice the time, and returns the same numbers.
- 4 and 8 bits in groups, as GGUF files have them, are multiplied in C; see group_linear.py.
- 8 bits with one scale a row use `int8pack`. With more than one token a pass the dense product is
  faster; what remains is half of the memory.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch.nn import functional

from forethought.engine.linear.tile_linear import DenseTileLinear

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


def dense_linear(
    weight: torch.Tensor, bias: torch.Tensor | None = None, *, is_head: bool = False
) -> Linear:
    """The fastest there is for dense weights on this machine.

    Args:
        weight: [N, K].
        bias: [N].
        is_head: what comes out are scores, float32 where that costs nothing.
    """
    if DenseTileLinear.takes(weight):
        return DenseTileLinear(weight, bias, torch.float32 if is_head else None)
    kind = PackedLinear if PackedLinear.supports(weight.dtype) else DenseLinear
    return kind(weight, bias)
