"""Attention over a pool of keys and values in blocks, with torch's own operations.

On every device: each sequence's keys and values are gathered from their blocks, and
`scaled_dot_product_attention` does the rest.

Letters: T tokens, L tokens of context with them, H query heads, J key-value heads, D head size.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart


@dataclass(frozen=True, slots=True)
class KVShape:
    """What one layer keeps of a token."""

    num_kv_heads: int  # J
    key_dim: int
    value_dim: int

    def block_bytes(self, dtype: torch.dtype) -> int:
        """Memory of a block in this layer."""
        return BLOCK_LEN * self.num_kv_heads * (self.key_dim + self.value_dim) * dtype.itemsize


@dataclass(frozen=True, slots=True)
class LayerPool:
    """Keys and values of one layer, for all blocks of the pool."""

    keys: torch.Tensor  # [blocks, J, D, 16]: the CPU kernel reads one number of 16 keys at a time
    values: torch.Tensor  # [blocks, J, 16, D]

    @classmethod
    def empty(
        cls, shape: KVShape, num_blocks: int, dtype: torch.dtype, device: torch.device
    ) -> "LayerPool":
        """Room for so many blocks, none of it written."""
        heads = (num_blocks, shape.num_kv_heads)
        return cls(
            torch.empty(*heads, shape.key_dim, BLOCK_LEN, dtype=dtype, device=device),
            torch.empty(*heads, BLOCK_LEN, shape.value_dim, dtype=dtype, device=device),
        )

    def write(self, keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
        """Puts the keys and values of T tokens, [T, J, D], into their slots."""
        blocks, places = slots // BLOCK_LEN, slots % BLOCK_LEN
        self.keys[blocks, :, :, places] = keys.to(self.keys.dtype)
        self.values[blocks, :, places] = values.to(self.values.dtype)

    def read(self, block_ids: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values of the first L tokens in some blocks, [J, L, D] each."""
        keys = self.keys[block_ids].permute(1, 0, 3, 2).flatten(1, 2)
        values = self.values[block_ids].transpose(0, 1).flatten(1, 2)
        return keys[:, :length], values[:, :length]


@dataclass(frozen=True, slots=True)
class AttentionKind:
    """What else there is to know of a layer's attention."""

    scale: float  # of the scores
    window: int | None = None  # how many of the latest tokens each sees, itself included
    softcap: float | None = None  # scores become softcap * tanh(score / softcap)
    sinks: torch.Tensor | None = None  # [H] scores that take part in the softmax and lead nowhere


class Context:
    """What the sequences of one pass can look at."""

    __slots__ = ("_masks", "_packed")

    def __init__(self, packed: PackedPass) -> None:
        self._packed = packed
        self._masks: dict[tuple[int, int | None], torch.Tensor | None] = {}

    def attend(
        self, index: int, queries: torch.Tensor, pool: LayerPool, kind: AttentionKind
    ) -> torch.Tensor:
        """What the tokens of one sequence make of all up to themselves.

        Args:
            index: of the sequence in the pass.
            queries: [T, H, D] of the whole pass.
            pool: has the keys and values of the T tokens already.
            kind: of attention.

        Returns:
            [tokens of the sequence, H, value size], in the number format of the queries.
        """
        part = self._packed.parts[index]
        bounds = self._packed.bounds
        own = queries[bounds[index] : bounds[index + 1]].transpose(0, 1)
        length = part.start + len(part.token_ids)
        block_ids = self._packed.tables[index, : -(-length // BLOCK_LEN)]
        keys, values = (numbers.to(own.dtype) for numbers in pool.read(block_ids, length))
        mask = self._mask(index, kind.window)
        if kind.softcap is None and kind.sinks is None:
            mask = None if mask is None else mask.to(own.dtype)
            mixed = functional.scaled_dot_product_attention(
                own[None], keys[None], values[None], mask, scale=kind.scale, enable_gqa=True
            )[0]
        else:
            mixed = _attend_by_hand(own, keys, values, mask, kind)
        return mixed.transpose(0, 1)

    def _mask(self, index: int, window: int | None) -> torch.Tensor | None:
        """Made once for all layers that want it."""
        key = (index, window)
        if key not in self._masks:
            part, device = self._packed.parts[index], self._packed.positions.device
            self._masks[key] = causal_mask(part, window, device)
        return self._masks[key]


def _attend_by_hand(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    kind: AttentionKind,
) -> torch.Tensor:
    """[H, T, D], [J, L, D], [J, L, D] -> [H, T, D], with what torch's own does not know."""
    group = len(queries) // len(keys)
    keys, values = (numbers.repeat_interleave(group, dim=0) for numbers in (keys, values))
    scores = (queries @ keys.transpose(1, 2)).float() * kind.scale  # [H, T, L]
    if kind.softcap is not None:
        scores = (scores / kind.softcap).tanh() * kind.softcap
    if mask is not None:
        scores = scores + mask
    if kind.sinks is not None:
        sinks = kind.sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)
        scores = torch.cat((scores, sinks), dim=-1)
    weights = scores.softmax(dim=-1)[..., : keys.shape[1]]
    return weights.to(values.dtype) @ values


def causal_mask(
    part: SequencePart, window: int | None, device: torch.device | None = None
) -> torch.Tensor | None:
    """[T, L] to add to the scores of a sequence: -inf where a token must not look. None if each
    sees all.

    Args:
        part: its tokens in this pass.
        window: how many of the latest tokens each sees, itself included; None is all.
        device: where to make it.
    """
    end = part.start + len(part.token_ids)
    if len(part.token_ids) == 1 and (window is None or end <= window):
        return None
    seen = torch.ones(len(part.token_ids), end, dtype=torch.bool, device=device)
    seen.tril_(part.start)
    if window is not None:
        seen.triu_(part.start - window + 1)
    return torch.zeros(seen.shape, device=device).masked_fill_(~seen, -math.inf)
