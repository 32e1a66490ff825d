"""All layers of a decoder in one call into C, where everything in them is C; see layers.c.

Called one by one from Python, the steps of a pass over one token of SmolLM2-135M in 4 bits take a
fifth more time. In one call they also leave the interpreter to the process's other threads.

A pass that computes a long chunk of a prompt is not taken: its attention goes through torch.
"""

from collections.abc import Sequence
from typing import Any, Self

import torch

from forethought.engine.lean.lean_decoder import LeanLayer
from forethought.engine.lean.native_steps import NativeSteps
from forethought.engine.linear.tile_linear import DTYPES, TileLinear
from forethought.engine.model.attention import LayerPool
from forethought.engine.native import kernels
from forethought.engine.weights.lean_config import LeanConfig


class NativeLayers:
    """The layers of one decoder, with its pools.

    Args:
        shape: of the model.
        layers: of the model, with products that are in C; see `of`.
        pools: of the layers.
    """

    def __init__(
        self, shape: LeanConfig, layers: Sequence[LeanLayer], pools: Sequence[LayerPool]
    ) -> None:
        hidden_size = layers[0].attention_norm.weight.shape[-1]
        for layer in layers:
            _check(layer, shape, hidden_size)
        self._dtype = layers[0].qkv.dtype
        # What the addresses below are of.
        self._owners = (layers, pools)
        self._stack = kernels.native.stack(
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            hidden_size,
            shape.intermediate_size,
            shape.head_dim**-0.5,
            DTYPES[self._dtype],
            DTYPES[pools[0].keys.dtype],
            *(
                _numbers_of(layer, pool, window)
                for layer, pool, window in zip(layers, pools, shape.windows, strict=True)
            ),
        )

    @classmethod
    def of(
        cls, shape: LeanConfig, layers: Sequence[LeanLayer], pools: Sequence[LayerPool]
    ) -> Self | None:
        """None where a product is not in C, or not in the number format of the others."""
        dtypes: set[torch.dtype] = set()
        for linear in (linear for layer in layers for linear in layer.products):
            if not isinstance(linear, TileLinear):
                return None
            dtypes |= {linear.dtype, linear.result_dtype}
        return cls(shape, layers, pools) if len(dtypes) == 1 else None

    def run(self, steps: NativeSteps, x: torch.Tensor, delta: torch.Tensor | None) -> torch.Tensor:
        """All layers, for a pass whose sequences have few tokens each.

        Args:
            steps: of the pass.
            x: [T, hidden] float32; the layers add to it.
            delta: [T, hidden] to be added to it first.

        Returns:
            [T, hidden]: what the last layer adds to x.
        """
        if delta is not None:
            delta = delta.to(self._dtype)
        out = torch.empty(x.shape, dtype=self._dtype)
        kernels.native.run_layers(
            self._stack,
            len(x),
            *steps.pass_addresses,
            x.data_ptr(),
            0 if delta is None else delta.data_ptr(),
            out.data_ptr(),
        )
        return out


def _check(layer: LeanLayer, shape: LeanConfig, hidden_size: int) -> None:
    """Raises ValueError where weights do not fit the model's shape: room is made by that."""
    num_heads, num_kv_heads, dim = shape.num_heads, shape.num_kv_heads, shape.head_dim
    linears: Sequence[Any] = layer.products
    qk_norm = layer.qk_norm
    shapes = (
        *(linear.matrix[-2:] for linear in linears),
        layer.attention_norm.weight.shape,
        layer.mlp_norm.weight.shape,
        (num_heads + num_kv_heads, dim) if qk_norm is None else qk_norm.weight.shape,
    )
    expected = (
        ((num_heads + 2 * num_kv_heads) * dim, hidden_size),
        (hidden_size, num_heads * dim),
        (2 * shape.intermediate_size, hidden_size),
        (hidden_size, shape.intermediate_size),
        (hidden_size,),
        (hidden_size,),
        (num_heads + num_kv_heads, dim),
    )
    if any(own != other for own, other in zip(shapes, expected, strict=True)):
        raise ValueError(
            f"a layer's weights are {shapes}, where the model's shape wants {expected}"
        )


def _numbers_of(layer: LeanLayer, pool: LayerPool, window: int | None) -> tuple[Any, ...]:
    """Of one layer, as `stack` takes them."""
    linears: Sequence[Any] = layer.products
    qk_norm = layer.qk_norm
    return (
        layer.attention_norm.weight.data_ptr(),
        layer.mlp_norm.weight.data_ptr(),
        0 if qk_norm is None else qk_norm.weight.data_ptr(),
        layer.attention_norm.eps,
        layer.mlp_norm.eps,
        0.0 if qk_norm is None else qk_norm.eps,
        window or 0,
        pool.keys.data_ptr(),
        pool.values.data_ptr(),
        *(number for linear in linears for number in linear.matrix),
    )
