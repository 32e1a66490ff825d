"""All layers of a decoder in one call into C, where everything in them is C; see layers.c.

Called one by one from Python, the steps of a pass over one token of SmolLM2-135M in 4 bits take a
fifth more time. In one call they also leave the interpreter to the process's other threads.
"""

from collections.abc import Sequence
from ctypes import addressof
from typing import Any, Self

import torch

from forethought.engine.lean.lean_decoder import LeanLayer, RMSNorm
from forethought.engine.lean.native_steps import NativeSteps
from forethought.engine.linear.tile_linear import DTYPES, TileLinear
from forethought.engine.model.attention import LayerPool
from forethought.engine.native import kernels
from forethought.engine.native.structures import Layer, Stack
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig


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
        own_layers = (Layer * len(layers))(*map(_layer, layers, pools, shape.attentions))
        # What the addresses in the stack are of.
        self._owners = (layers, pools, own_layers)
        self._stack = Stack(
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            hidden_size=hidden_size,
            intermediate_size=shape.intermediate_size,
            scale=shape.score_scale,
            softcap=shape.score_cap,
            is_gelu=shape.gates_with_gelu,
            dtype=DTYPES[self._dtype],
            kv_dtype=DTYPES[pools[0].keys.dtype],
            num_layers=len(layers),
            layers=addressof(own_layers),
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
        """All layers.

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
        own = steps.structure
        own.stack = addressof(self._stack)
        own.x, own.out = x.data_ptr(), out.data_ptr()
        own.delta = 0 if delta is None else delta.data_ptr()
        kernels.native.run_layers(own)
        return out


def _check(layer: LeanLayer, shape: LeanConfig, hidden_size: int) -> None:
    """Raises ValueError where weights do not fit the model's shape: room is made by that."""
    num_heads, num_kv_heads, dim = shape.num_heads, shape.num_kv_heads, shape.head_dim
    linears: Sequence[Any] = layer.products
    qk_norm = layer.qk_norm
    shapes = (
        *((linear.matrix.n, linear.matrix.k) for linear in linears),
        layer.attention_norm.weight.shape,
        layer.mlp_norm.weight.shape,
        *(norm.weight.shape for norm in _post_norms(layer) if norm is not None),
        (num_heads + num_kv_heads, dim) if qk_norm is None else qk_norm.weight.shape,
    )
    expected = (
        ((num_heads + 2 * num_kv_heads) * dim, hidden_size),
        (hidden_size, num_heads * dim),
        (2 * shape.intermediate_size, hidden_size),
        (hidden_size, shape.intermediate_size),
        (hidden_size,),
        (hidden_size,),
        *((hidden_size,) for norm in _post_norms(layer) if norm is not None),
        (num_heads + num_kv_heads, dim),
    )
    if any(own != other for own, other in zip(shapes, expected, strict=True)):
        raise ValueError(
            f"a layer's weights are {shapes}, where the model's shape wants {expected}"
        )


def _post_norms(layer: LeanLayer) -> tuple[RMSNorm | None, RMSNorm | None]:
    return layer.post_attention_norm, layer.post_mlp_norm


def _layer(layer: LeanLayer, pool: LayerPool, kind: LayerAttention) -> Layer:
    """As the kernels want it."""
    products: Sequence[Any] = layer.products
    qkv, out, gate_up, down = (each.matrix for each in products)
    qk_norm, (post_attention, post_mlp) = layer.qk_norm, _post_norms(layer)
    return Layer(
        attention_norm=layer.attention_norm.weight.data_ptr(),
        mlp_norm=layer.mlp_norm.weight.data_ptr(),
        qk_norm=0 if qk_norm is None else qk_norm.weight.data_ptr(),
        post_attention_norm=0 if post_attention is None else post_attention.weight.data_ptr(),
        post_mlp_norm=0 if post_mlp is None else post_mlp.weight.data_ptr(),
        attention_eps=layer.attention_norm.eps,
        mlp_eps=layer.mlp_norm.eps,
        qk_eps=0.0 if qk_norm is None else qk_norm.eps,
        post_attention_eps=0.0 if post_attention is None else post_attention.eps,
        post_mlp_eps=0.0 if post_mlp is None else post_mlp.eps,
        rope=kind.rotation,
        window=kind.window or 0,
        keys=pool.keys.data_ptr(),
        values=pool.values.data_ptr(),
        qkv=qkv,
        out=out,
        gate_up=gate_up,
        down=down,
    )
