"""The steps between products in torch's operations: right everywhere, and the measure for others.

Shapes: T tokens, H query heads, J key-value heads, D head size.
"""

import torch
from torch.nn import functional

from forethought.engine.lean.lean_decoder import LayerStack, RMSNorm, run_step_by_step
from forethought.engine.model.attention import AttentionKind, Context, LayerPool
from forethought.engine.model.packed import PackedPass
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig, Rotation


class TorchSteps:
    """`LayerSteps` of one pass, on any device."""

    def __init__(self, shape: LeanConfig, packed: PackedPass) -> None:
        self._shape = shape
        self._packed = packed
        self._context = Context(packed)
        self._turns = [_turn(packed, shape, rotation) for rotation in shape.rotations]

    def run(
        self, stack: LayerStack, x: torch.Tensor, delta: torch.Tensor | None
    ) -> torch.Tensor | None:
        return run_step_by_step(self, stack, x, delta)

    def add_and_norm(
        self, x: torch.Tensor, delta: torch.Tensor | None, norm: RMSNorm, dtype: torch.dtype
    ) -> torch.Tensor:
        if delta is not None:
            x += delta.float()
        return rms_norm(x, norm).to(dtype)

    def attend(
        self, qkv: torch.Tensor, qk_norm: RMSNorm | None, pool: LayerPool, kind: LayerAttention
    ) -> torch.Tensor:
        shape, num_tokens = self._shape, len(qkv)
        num_rotated = shape.num_heads + shape.num_kv_heads
        heads = qkv.float().view(num_tokens, -1, shape.head_dim)
        rotated, values = heads[:, :num_rotated], heads[:, num_rotated:]
        if qk_norm is not None:
            rotated = rms_norm(rotated, qk_norm)
        pairs = torch.view_as_complex(rotated.reshape(*rotated.shape[:-1], -1, 2))
        rotated = torch.view_as_real(pairs * self._turns[kind.rotation]).flatten(2)  # [T, H + J, D]
        queries, keys = rotated[:, : shape.num_heads], rotated[:, shape.num_heads :]
        pool.write(keys, values, self._packed.slots)
        own = AttentionKind(shape.score_scale, kind.window, shape.score_cap or None)
        mixed = [
            self._context.attend(index, queries, pool, own)
            for index in range(len(self._packed.parts))
        ]
        return torch.cat(mixed).flatten(1).to(qkv.dtype)

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        gate, up = gate_up.float().chunk(2, dim=-1)
        if self._shape.gates_with_gelu:
            return functional.gelu(gate, approximate="tanh").mul_(up).to(gate_up.dtype)
        return functional.silu(gate).mul_(up).to(gate_up.dtype)

    def post_norm(self, delta: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        return rms_norm(delta.float(), norm).to(delta.dtype)


def _turn(packed: PackedPass, shape: LeanConfig, rotation: Rotation) -> torch.Tensor:
    """[T, 1, D / 2] complex."""
    angles = torch.outer(packed.positions.float(), rotation.inv_freq)
    lengths = torch.full_like(angles, rotation.scale)
    if shape.num_turned is not None:  # the others keep their length
        lengths[:, shape.num_turned // 2 :] = 1.0
    return torch.polar(lengths, angles)[:, None]


def rms_norm(x: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
    """Over the last dimension."""
    return x * (x.square().mean(dim=-1, keepdim=True) + norm.eps).rsqrt() * norm.weight
