"""The steps between products in C, on a CPU; see kernels.c.

Attention of a few tokens reads keys and values where they lie. A long chunk of a prompt is bound by
arithmetic instead, and goes through torch.

Shapes: T tokens, H query heads, J key-value heads, D head size.
"""

from itertools import groupby

import torch

from forethought.engine import kernels
from forethought.engine.attention import AttentionKind, Context, LayerPool
from forethought.engine.lean_config import LeanConfig
from forethought.engine.lean_decoder import RMSNorm
from forethought.engine.packed import PackedPass

_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
_MAX_TOKENS = 32
"""Of one sequence, for which the kernel beats a gather and torch's attention."""
_VECTOR = 16  # numbers that the kernel takes at a time
_MAX_HEAD_DIM = 1024


def is_native(shape: LeanConfig, dtype: torch.dtype) -> bool:
    """Whether the extension is built, and takes a model of this shape and number format."""
    return (
        kernels.are_built
        and dtype in _DTYPES
        and shape.head_dim % _VECTOR == 0
        and shape.head_dim <= _MAX_HEAD_DIM
    )


class NativeSteps:
    """`LayerSteps` of one pass on a CPU."""

    def __init__(self, shape: LeanConfig, packed: PackedPass) -> None:
        self._shape = shape
        self._packed = packed
        num_tokens = len(packed.token_ids)
        angles = torch.outer(packed.positions.float(), shape.inv_freq)  # [T, D / 2]
        turn = torch.polar(torch.full_like(angles, shape.rope_scale), angles)
        self._rotation = torch.view_as_real(turn).contiguous()  # [T, D / 2, 2]
        self._queries = torch.empty(num_tokens, shape.num_heads, shape.head_dim)
        self._heads = (shape.num_heads, shape.num_kv_heads, shape.head_dim)
        # Runs of neighbouring sequences, each with whether the kernel takes it.
        self._runs = [
            (is_short, [index for index, _ in run])
            for is_short, run in groupby(
                enumerate(packed.parts), lambda item: len(item[1].token_ids) <= _MAX_TOKENS
            )
        ]
        self._context = Context(packed)

    def add_and_norm(
        self, x: torch.Tensor, delta: torch.Tensor | None, norm: RMSNorm, dtype: torch.dtype
    ) -> torch.Tensor:
        num_rows, size = x.shape
        y = torch.empty(num_rows, size, dtype=dtype)
        if delta is not None:
            delta = delta.to(dtype)
        kernels.native.norm(
            x.data_ptr(),
            0 if delta is None else delta.data_ptr(),
            norm.weight.data_ptr(),
            y.data_ptr(),
            _DTYPES[dtype],
            num_rows,
            size,
            norm.eps,
        )
        return y

    def attend(
        self, qkv: torch.Tensor, qk_norm: RMSNorm | None, pool: LayerPool, window: int | None
    ) -> torch.Tensor:
        dtype, kv_dtype = _DTYPES[qkv.dtype], _DTYPES[pool.keys.dtype]
        keys, values = pool.keys.data_ptr(), pool.values.data_ptr()
        queries = self._queries.data_ptr()
        kernels.native.rotate(
            len(qkv),
            *self._heads,
            dtype,
            kv_dtype,
            qkv.data_ptr(),
            self._rotation.data_ptr(),
            0 if qk_norm is None else qk_norm.weight.data_ptr(),
            0.0 if qk_norm is None else qk_norm.eps,
            self._shape.head_dim**-0.5,
            self._packed.slots.data_ptr(),
            queries,
            keys,
            values,
        )
        mixed = torch.empty(len(qkv), self._shape.num_heads * self._shape.head_dim, dtype=qkv.dtype)
        tables = self._packed.tables
        for is_short, indices in self._runs:
            if is_short:
                kernels.native.attend(
                    *self._heads,
                    dtype,
                    kv_dtype,
                    queries,
                    keys,
                    values,
                    self._packed.positions.data_ptr(),
                    window or 0,
                    self._packed.starts.data_ptr() + 4 * indices[0],
                    tables.data_ptr() + 4 * indices[0] * tables.shape[1],
                    len(indices),
                    tables.shape[1],
                    mixed.data_ptr(),
                )
            else:
                first, last = self._packed.starts[[indices[0], indices[-1] + 1]].tolist()
                kind = AttentionKind(1.0, window)  # q is scaled already
                own = [self._context.attend(index, self._queries, pool, kind) for index in indices]
                mixed[first:last] = torch.cat(own).flatten(1)
        return mixed

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        num_rows, size = len(gate_up), gate_up.shape[1] // 2
        y = torch.empty(num_rows, size, dtype=gate_up.dtype)
        kernels.native.gate(
            gate_up.data_ptr(), y.data_ptr(), _DTYPES[gate_up.dtype], num_rows, size
        )
        return y
