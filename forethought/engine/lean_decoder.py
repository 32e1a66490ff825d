"""A decoder for the Llama family (Llama, Mistral, Qwen2, Qwen3, SmolLM) with nothing to spare.

A pass over a few tokens should take as long as its weights take to arrive from memory. In a library
that serves every model it takes several times that: 30 layers of a small model are a thousand
small operations, some microseconds each before any work. So here:

- q, k and v come from one product, gate and up from another.
- Activations between products are float32: nothing is cast back and forth, and only what enters a
  product is rounded to the format of its weights.
- Rotary embedding multiplies complex numbers. The rows of q and k are in the order of ggml, the two
  numbers that rotate together side by side, which changes no score: both are permuted alike.
  The scale of the scores is part of q's rotation.
- Keys and values are float32 too. torch's attention takes no longer over them than over bfloat16,
  nor longer than two batched products and a softmax.
- All layers' keys and values of a sequence are one tensor, which doubles when it is full. To
  truncate is to lower a number.

Shapes: T tokens, L of context with them, H query heads, J key-value heads, D head size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from forethought.engine.causal_model import KVCache
from forethought.engine.linear import Linear

_FIRST_CAPACITY = 128  # tokens

Embedding = Callable[[Sequence[int]], torch.Tensor]
"""T token ids -> [T, hidden] float32, the caller's own."""


class RMSNorm:
    """x / sqrt(mean(x^2) + eps) * weight, in half the operations of torch's own on a CPU.

    With n numbers to the vector, sqrt(mean(x^2) + eps) = hypot(|x|, sqrt(n eps)) / sqrt(n).
    """

    __slots__ = ("_floor", "_weight")

    def __init__(self, weight: torch.Tensor, eps: float) -> None:
        size = weight.shape[-1]
        self._weight = weight.float() * size**0.5
        self._floor = torch.tensor((size * eps) ** 0.5)

    def __call__(self, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        length = torch.linalg.vector_norm(x, 2.0, -1, True).hypot_(self._floor)  # noqa: FBT003
        return x.div(length).mul_(self._weight).to(dtype)


@dataclass(frozen=True, slots=True)
class LeanShape:
    """What a model of the family is, besides its weights."""

    vocab_size: int
    max_model_len: int
    num_heads: int  # H
    num_kv_heads: int  # J
    head_dim: int  # D
    inv_freq: torch.Tensor  # [D / 2] float32, radians a position
    rope_scale: float  # length of a rotated unit vector; 1 but for YaRN
    windows: Sequence[int | None]  # of each layer: the latest tokens it sees, itself included


@dataclass(frozen=True, slots=True)
class LeanLayer:
    """The weights of one layer."""

    attention_norm: RMSNorm
    qkv: Linear  # hidden -> (H + J + J) D, q and k rotated in pairs
    qk_norm: RMSNorm | None  # of each head, [H + J, D]
    out: Linear  # H D -> hidden
    mlp_norm: RMSNorm
    gate_up: Linear  # hidden -> 2 intermediate
    down: Linear  # intermediate -> hidden


@dataclass(frozen=True, slots=True)
class LeanWeights:
    """All weights of a model."""

    embedding: Embedding
    layers: Sequence[LeanLayer]
    norm: RMSNorm
    head: Linear  # hidden -> V


class LeanCache:
    """Keys and values of one sequence."""

    __slots__ = ("_limit", "length", "pairs")

    def __init__(self, num_layers: int, num_kv_heads: int, head_dim: int, limit: int) -> None:
        self.length = 0
        self._limit = limit
        # [layers, J of keys + J of values, capacity, D]
        self.pairs = torch.empty(num_layers, 2 * num_kv_heads, 0, head_dim)

    def truncate(self, length: int) -> None:
        self.length = min(self.length, length)

    def reserve(self, length: int) -> None:
        """Makes room for this many tokens."""
        capacity = self.pairs.shape[2]
        if length <= capacity:
            return
        wanted = max(length, min(max(2 * capacity, _FIRST_CAPACITY), self._limit))
        layers, heads, _, head_dim = self.pairs.shape
        pairs = torch.empty(layers, heads, wanted, head_dim)
        pairs[:, :, : self.length] = self.pairs[:, :, : self.length]
        self.pairs = pairs


class LeanDecoder:
    """`CausalModel` on a CPU, one sequence at a time."""

    engine_name = "lean"
    device_name = "cpu"

    def __init__(self, shape: LeanShape, weights: LeanWeights, dtype_name: str) -> None:
        self.vocab_size = shape.vocab_size
        self.max_model_len = shape.max_model_len
        self.dtype_name = dtype_name
        self.shape = shape
        self.weights = weights
        self._num_rotated = shape.num_heads + shape.num_kv_heads

    def new_cache(self) -> LeanCache:
        shape = self.shape
        return LeanCache(
            len(self.weights.layers), shape.num_kv_heads, shape.head_dim, shape.max_model_len
        )

    @torch.inference_mode()
    def forward(self, token_ids: Sequence[int], cache: KVCache, num_logits: int) -> torch.Tensor:
        if not isinstance(cache, LeanCache):
            raise TypeError(f"a cache of another engine: {type(cache).__name__}")
        start, end = cache.length, cache.length + len(token_ids)
        cache.reserve(end)
        weights = self.weights
        rotation = self._rotation(start, end)
        masks = {window: self._mask(start, end, window) for window in {*self.shape.windows}}
        # For each layer: [2 J, T, D] to fill, [1, J, L, D], [1, J, L, D].
        added = cache.pairs[:, :, start:end].unbind()
        keys = cache.pairs[:, None, : self.shape.num_kv_heads, :end].unbind()
        values = cache.pairs[:, None, self.shape.num_kv_heads :, :end].unbind()

        x = weights.embedding(token_ids)  # [T, hidden]
        for index, layer in enumerate(weights.layers):
            heads = layer.qkv(layer.attention_norm(x, layer.qkv.dtype))
            queries = self._rotate(heads, layer.qk_norm, rotation, added[index])
            mask = masks[self.shape.windows[index]]
            mixed = functional.scaled_dot_product_attention(
                queries, keys[index], values[index], mask, scale=1.0, enable_gqa=True
            )  # [1, H, T, D]
            mixed = mixed.transpose(1, 2).reshape(len(x), -1)
            x += layer.out(mixed.to(layer.out.dtype)).float()
            gate_up = layer.gate_up(layer.mlp_norm(x, layer.gate_up.dtype))
            gate, up = gate_up.view(len(x), 2, -1).unbind(1)
            x += layer.down(functional.silu(gate).mul_(up)).float()
        cache.length = end

        x = x[len(token_ids) - num_logits :]
        if not num_logits:
            return x.new_empty(0, self.vocab_size)
        return weights.head(weights.norm(x, weights.head.dtype)).float()

    def _rotation(self, start: int, end: int) -> torch.Tensor:
        """[T, H + 2 J, D / 2] complex: what q, k and v are multiplied by. v stays as it is."""
        shape = self.shape
        positions = torch.arange(start, end, dtype=torch.float32)
        angles = torch.outer(positions, shape.inv_freq)
        turn = torch.polar(torch.full_like(angles, shape.rope_scale), angles)[:, None]
        rotation = turn.new_ones(end - start, shape.num_heads + 2 * shape.num_kv_heads, 1) * turn
        rotation[:, : shape.num_heads] *= shape.head_dim**-0.5
        rotation[:, self._num_rotated :] = 1
        return rotation

    def _mask(self, start: int, end: int, window: int | None) -> torch.Tensor | None:
        """[T, L] to add to scores: -inf where a token must not look. None if all are seen."""
        if end - start == 1 and (window is None or end <= window):
            return None
        seen = torch.ones(end - start, end, dtype=torch.bool).tril_(start)
        if window is not None:
            seen.triu_(start - window + 1)
        return torch.zeros(seen.shape).masked_fill_(~seen, -math.inf)

    def _rotate(
        self,
        heads: torch.Tensor,
        qk_norm: RMSNorm | None,
        rotation: torch.Tensor,
        added: torch.Tensor,
    ) -> torch.Tensor:
        """[T, (H + 2 J) D] -> queries [1, H, T, D] float32; keys and values go to `added`."""
        shape = self.shape
        num_tokens = len(heads)
        heads = heads.float().view(num_tokens, -1, shape.head_dim)
        if qk_norm is not None:
            normed = heads[:, : self._num_rotated]
            normed.copy_(qk_norm(normed, torch.float32))
        torch.view_as_complex(heads.view(num_tokens, -1, shape.head_dim // 2, 2)).mul_(rotation)
        added.copy_(heads[:, shape.num_heads :].transpose(0, 1))
        return heads[:, : shape.num_heads].transpose(0, 1)[None]
