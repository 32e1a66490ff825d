"""A decoder for the Llama family (Llama, Mistral, Qwen2, Qwen3, SmolLM) with nothing to spare.

A pass over a few tokens should take as long as its weights take to arrive from memory. In a library
that serves every model it takes several times that: 30 layers of a small model are a thousand
small operations, some microseconds each before any work. So here:

- q, k and v come from one product, gate and up from another.
- The residual stream is float32: nothing is cast back and forth, and only what enters a product is
  rounded to the format of its weights.
- The rows of q and k are in the order of ggml, the two numbers that rotate together side by side,
  which changes no score: both are permuted alike.
- What stands between two products is one call each (`LayerSteps`), into a small C extension where
  that is built, and into torch where it is not. Where the products are in C too, all layers are one
  call (`LayerStack.whole`).

Shapes: T tokens, R scored rows, H query heads, J key-value heads, D head size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from forethought.engine.linear.linear import Linear
from forethought.engine.model.attention import KVShape, LayerPool
from forethought.engine.model.kv_layout import BlockAccess, KVLayout, Numbers
from forethought.engine.model.packed import PackedPass
from forethought.engine.weights.checkpoint import Embedding
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig


@dataclass(frozen=True, slots=True)
class RMSNorm:
    """x / sqrt(mean(x^2) + eps) * weight."""

    weight: torch.Tensor  # [..., N] float32
    eps: float


@dataclass(frozen=True, slots=True)
class LeanLayer:
    """The weights of one layer."""

    attention_norm: RMSNorm
    qkv: Linear  # hidden -> (H + J + J) D, q and k rotated in pairs
    qk_norm: RMSNorm | None  # of each head, [H + J, D]
    out: Linear  # H D -> hidden
    post_attention_norm: RMSNorm | None  # of what attention adds to the stream
    mlp_norm: RMSNorm
    gate_up: Linear  # hidden -> 2 intermediate
    down: Linear  # intermediate -> hidden
    post_mlp_norm: RMSNorm | None  # of what the MLP adds to the stream

    @property
    def products(self) -> tuple[Linear, Linear, Linear, Linear]:
        """Its products with weights, in the order of a pass."""
        return self.qkv, self.out, self.gate_up, self.down


@dataclass(frozen=True, slots=True)
class LeanWeights:
    """All weights of a model."""

    embedding: Embedding
    layers: Sequence[LeanLayer]
    norm: RMSNorm
    head: Linear  # hidden -> V


class WholeLayers(Protocol):
    """All layers in one call."""

    def run(self, steps: Any, x: torch.Tensor, delta: torch.Tensor | None) -> torch.Tensor:
        """As `LayerSteps.run` does; for the steps of its own backend."""
        ...


@dataclass(frozen=True, slots=True)
class LayerStack:
    """All layers of a model with their pools."""

    layers: Sequence[LeanLayer] = ()
    pools: Sequence[LayerPool] = ()
    attentions: Sequence[LayerAttention] = ()
    whole: WholeLayers | None = None  # where the backend has it


class LayerSteps(Protocol):
    """What stands between the products of a layer, for one pass."""

    def run(
        self, stack: LayerStack, x: torch.Tensor, delta: torch.Tensor | None
    ) -> torch.Tensor | None:
        """All layers. Each adds to x, [T, hidden] float32, in place, what the one before gave out:
        the first one `delta`. Returns what the last one gives out."""
        ...

    def add_and_norm(
        self, x: torch.Tensor, delta: torch.Tensor | None, norm: RMSNorm, dtype: torch.dtype
    ) -> torch.Tensor:
        """Adds `delta` to x, [T, hidden] float32, in place; returns the normed sum in `dtype`."""
        ...

    def attend(
        self, qkv: torch.Tensor, qk_norm: RMSNorm | None, pool: LayerPool, kind: LayerAttention
    ) -> torch.Tensor:
        """[T, (H + 2 J) D] -> [T, H D], both in the format of the products.

        Rotates q and k, puts k and v into the pool, and lets each token look at its context.
        """
        ...

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up, or gelu: [T, 2 intermediate] -> [T, intermediate]."""
        ...

    def post_norm(self, delta: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        """What a layer adds to x, [T, hidden], normed in place or anew."""
        ...


@dataclass(frozen=True, slots=True)
class LeanBackend:
    """How and where all but the products is computed."""

    engine_name: str  # tells apart what rounds differently
    steps: Callable[[LeanConfig, PackedPass], LayerSteps]
    whole: (
        Callable[[LeanConfig, Sequence[LeanLayer], Sequence[LayerPool]], WholeLayers | None] | None
    )
    kv_dtype: torch.dtype
    device: torch.device


class LeanDecoder:
    """`CausalModel` for the Llama family."""

    def __init__(
        self, shape: LeanConfig, weights: LeanWeights, dtype_name: str, backend: LeanBackend
    ) -> None:
        self.vocab_size = shape.vocab_size
        self.hidden_size = weights.norm.weight.shape[-1]
        self.max_model_len = shape.max_model_len
        self.engine_name = backend.engine_name
        self.dtype_name = dtype_name
        self.device_name = str(backend.device)
        self.shape = shape
        self.weights = weights
        self.backend = backend
        self._kv_shape = KVShape(shape.num_kv_heads, shape.head_dim, shape.head_dim)
        self._stack = LayerStack()
        self._access = BlockAccess([])

    def products(self) -> Iterator[Linear]:
        """All products with weights, in the order of a pass."""
        for layer in self.weights.layers:
            yield from layer.products
        yield self.weights.head

    @property
    def kv_bytes_per_block(self) -> int:
        return len(self.weights.layers) * self._kv_shape.block_bytes(self.backend.kv_dtype)

    @property
    def kv_layout(self) -> KVLayout:
        shapes = (self._kv_shape,) * len(self.weights.layers)
        return KVLayout(self.engine_name, self.backend.kv_dtype, shapes)

    def allocate(self, num_blocks: int) -> None:
        # The old one's memory comes back first.
        self._stack, self._access = LayerStack(), BlockAccess([])
        backend, layers = self.backend, self.weights.layers
        pools = [
            LayerPool.empty(self._kv_shape, num_blocks, backend.kv_dtype, backend.device)
            for _ in layers
        ]
        whole = backend.whole(self.shape, layers, pools) if backend.whole else None
        self._stack = LayerStack(layers, pools, self.shape.attentions, whole)
        self._access = BlockAccess(pools)

    def read_block(self, block_id: int) -> Numbers:
        return self._access.read(block_id)

    def write_block(self, block_id: int, numbers: Numbers) -> None:
        self._access.write(block_id, numbers)

    @torch.inference_mode()
    def forward(self, packed: PackedPass) -> torch.Tensor:
        steps = self.backend.steps(self.shape, packed)
        x, delta = self._pass_layers(packed, steps)
        weights = self.weights
        if not len(packed.logit_rows):
            return x.new_empty(0, self.vocab_size)
        if not packed.scores_all and delta is not None:
            x, delta = x[packed.logit_rows], delta[packed.logit_rows]  # [R, hidden]
        return weights.head(steps.add_and_norm(x, delta, weights.norm, weights.head.dtype)).float()

    @torch.inference_mode()
    def forward_with_states(self, packed: PackedPass) -> tuple[torch.Tensor, torch.Tensor]:
        rows, weights = packed.hidden_rows, self.weights
        assert rows is not None
        steps = self.backend.steps(self.shape, packed)
        x, delta = self._pass_layers(packed, steps)
        if len(rows.kept) < len(x):
            x, delta = x[rows.kept], None if delta is None else delta[rows.kept]  # [N, hidden]
        states = steps.add_and_norm(x, delta, weights.norm, weights.head.dtype)
        if not len(rows.scored):
            return x.new_empty(0, self.vocab_size), states[rows.wanted]
        scored = states if len(rows.scored) == len(states) else states[rows.scored]
        return weights.head(scored).float(), states[rows.wanted]

    def _inputs(
        self,
        packed: PackedPass,
        steps: LayerSteps,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What goes into the first layer: x [T, hidden] float32, and what is to be added to it."""
        return self.weights.embedding(packed.token_ids), None

    def _pass_layers(
        self, packed: PackedPass, steps: LayerSteps
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """All but the last norm and the head: x [T, hidden] float32, and what the last layer adds
        to it."""
        x, delta = self._inputs(packed, steps)
        packed.on_start()
        return x, steps.run(self._stack, x, delta)


def run_step_by_step(
    steps: LayerSteps, stack: LayerStack, x: torch.Tensor, delta: torch.Tensor | None
) -> torch.Tensor | None:
    """What `LayerSteps.run` is to do, with the other steps."""
    for layer, pool, kind in zip(stack.layers, stack.pools, stack.attentions, strict=True):
        y = steps.add_and_norm(x, delta, layer.attention_norm, layer.qkv.dtype)
        delta = layer.out(steps.attend(layer.qkv(y), layer.qk_norm, pool, kind))
        if layer.post_attention_norm is not None:
            delta = steps.post_norm(delta, layer.post_attention_norm)
        y = steps.add_and_norm(x, delta, layer.mlp_norm, layer.gate_up.dtype)
        delta = layer.down(steps.gate(layer.gate_up(y)))
        if layer.post_mlp_norm is not None:
            delta = steps.post_norm(delta, layer.post_mlp_norm)
    return delta
