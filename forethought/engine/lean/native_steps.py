"""The steps between products in C, on a CPU; see steps.c and attention.c.

Shapes: T tokens, H query heads, J key-value heads, D head size.
"""

import torch

from forethought.engine.lean.lean_decoder import LayerStack, RMSNorm, run_step_by_step
from forethought.engine.linear.tile_linear import DTYPES
from forethought.engine.model.attention import LayerPool
from forethought.engine.model.packed import PackedPass
from forethought.engine.native import kernels
from forethought.engine.native.structures import (
    Attention,
    Gate,
    Norm,
    Pass,
    PostNorm,
    Rope,
    RotaryEmbedding,
)
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig

_VECTOR = 16  # numbers that the kernel takes at a time
_MAX_HEAD_DIM = 1024


def is_native(shape: LeanConfig, dtype: torch.dtype) -> bool:
    """Whether the extension is built, and takes a model of this shape and number format."""
    return (
        kernels.are_built
        and dtype in DTYPES
        and shape.head_dim % _VECTOR == shape.intermediate_size % _VECTOR == 0
        and shape.head_dim <= _MAX_HEAD_DIM
    )


class NativeSteps:
    """`LayerSteps` of one pass on a CPU."""

    def __init__(self, shape: LeanConfig, packed: PackedPass) -> None:
        self._shape = shape
        self._packed = packed
        num_tokens = len(packed.token_ids)
        # Cosine and sine of each pair.
        self._rotations = torch.empty(len(shape.rotations), num_tokens, shape.head_dim)
        self._queries = torch.empty(num_tokens, shape.num_heads, shape.head_dim)
        self._rotation_addresses = [each.data_ptr() for each in self._rotations]
        self._queries_address = self._queries.data_ptr()
        self._positions_address = packed.positions.data_ptr()
        self._slots_address = packed.slots.data_ptr()
        for rotation, address in zip(shape.rotations, self._rotation_addresses, strict=True):
            kernels.native.rotary_embedding(
                RotaryEmbedding(
                    positions=self._positions_address,
                    frequencies=rotation.inv_freq.data_ptr(),
                    rotation=address,
                    scale=rotation.scale,
                    num_tokens=num_tokens,
                    num_pairs=shape.head_dim // 2,
                )
            )
        if shape.num_turned is not None:  # the others keep their length
            self._rotations[..., shape.num_turned :: 2] = 1.0
        self._buffers: dict[tuple[int, int, torch.dtype], tuple[torch.Tensor, int]] = {}

    def run(
        self, stack: LayerStack, x: torch.Tensor, delta: torch.Tensor | None
    ) -> torch.Tensor | None:
        if stack.whole is not None:
            return stack.whole.run(self, x, delta)
        return run_step_by_step(self, stack, x, delta)

    @property
    def structure(self) -> Pass:
        """What the kernels want to know of the pass, but for its layers and what they compute."""
        packed = self._packed
        num_sequences, width = packed.tables.shape
        return Pass(
            num_tokens=len(packed.token_ids),
            num_sequences=num_sequences,
            width=width,
            rotations=self._rotation_addresses[0],
            positions=self._positions_address,
            slots=self._slots_address,
            starts=packed.starts.data_ptr(),
            tables=packed.tables.data_ptr(),
        )

    def add_and_norm(
        self, x: torch.Tensor, delta: torch.Tensor | None, norm: RMSNorm, dtype: torch.dtype
    ) -> torch.Tensor:
        num_rows, size = x.shape
        y, address = self._buffer(num_rows, size, dtype)
        if delta is not None and delta.dtype is not dtype:
            delta = delta.to(dtype)
        kernels.native.norm(
            Norm(
                x=x.data_ptr(),
                delta=0 if delta is None else delta.data_ptr(),
                weight=norm.weight.data_ptr(),
                y=address,
                dtype=DTYPES[dtype],
                eps=norm.eps,
                rows=num_rows,
                n=size,
            )
        )
        return y

    def attend(
        self, qkv: torch.Tensor, qk_norm: RMSNorm | None, pool: LayerPool, kind: LayerAttention
    ) -> torch.Tensor:
        common = {
            "num_heads": self._shape.num_heads,
            "num_kv_heads": self._shape.num_kv_heads,
            "head_dim": self._shape.head_dim,
            "dtype": DTYPES[qkv.dtype],
            "kv_dtype": DTYPES[pool.keys.dtype],
            "queries": self._queries_address,
            "keys": pool.keys.data_ptr(),
            "values": pool.values.data_ptr(),
        }
        kernels.native.rotate(
            Rope(
                **common,
                num_tokens=len(qkv),
                qkv=qkv.data_ptr(),
                rotation=self._rotation_addresses[kind.rotation],
                norm=0 if qk_norm is None else qk_norm.weight.data_ptr(),
                eps=0.0 if qk_norm is None else qk_norm.eps,
                scale=self._shape.score_scale,
                slots=self._slots_address,
            )
        )
        size = self._shape.num_heads * self._shape.head_dim
        mixed, address = self._buffer(len(qkv), size, qkv.dtype)
        num_sequences, width = self._packed.tables.shape
        kernels.native.attend(
            Attention(
                **common,
                positions=self._positions_address,
                window=kind.window or 0,
                softcap=self._shape.score_cap,
                starts=self._packed.starts.data_ptr(),
                tables=self._packed.tables.data_ptr(),
                num_sequences=num_sequences,
                width=width,
                out=address,
            )
        )
        return mixed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        num_rows, size = len(gate_up), gate_up.shape[1] // 2
        y, address = self._buffer(num_rows, size, gate_up.dtype)
        kernels.native.gate(
            Gate(
                gate_up=gate_up.data_ptr(),
                y=address,
                dtype=DTYPES[gate_up.dtype],
                is_gelu=self._shape.gates_with_gelu,
                rows=num_rows,
                n=size,
            )
        )
        return y

    def post_norm(self, delta: torch.Tensor, norm: RMSNorm) -> torch.Tensor:
        kernels.native.post_norm(
            PostNorm(
                y=delta.data_ptr(),
                weight=norm.weight.data_ptr(),
                dtype=DTYPES[delta.dtype],
                eps=norm.eps,
                rows=len(delta),
                n=delta.shape[1],
            )
        )
        return delta

    def _buffer(self, num_rows: int, size: int, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
        """Room for what goes into the next product, and its address. Used again for the one after
        that: by then the product has read it.
        """
        key = (num_rows, size, dtype)
        if key not in self._buffers:
            buffer = torch.empty(num_rows, size, dtype=dtype)
            self._buffers[key] = buffer, buffer.data_ptr()
        return self._buffers[key]
