"""A head whose logits are bent so that none is larger than a cap, as in Gemma 2."""

import torch

from forethought.engine.linear.linear import Linear
from forethought.engine.native import kernels
from forethought.engine.native.structures import Softcap


class CappedHead:
    """cap * tanh(score / cap) of another head's scores, in float32."""

    __slots__ = ("_cap", "_product", "dtype", "num_inputs")

    def __init__(self, product: Linear, cap: float) -> None:
        self.dtype = product.dtype
        self.num_inputs = product.num_inputs
        self._product = product
        self._cap = cap

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[T, K] -> [T, V]."""
        scores = self._product(x).float().contiguous()
        if not kernels.are_built:
            return scores.div_(self._cap).tanh_().mul_(self._cap)
        kernels.native.softcap(Softcap(x=scores.data_ptr(), cap=self._cap, n=scores.numel()))
        return scores
