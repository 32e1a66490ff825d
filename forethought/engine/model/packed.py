"""One forward pass over parts of several sequences, side by side without padding.

    sequence A   ........a1 a2          verification: two tokens after eight that are cached
    sequence B   ...b1                  one token
    sequence C   c1 c2 c3               the first chunk of a prompt

    packed       a1 a2 b1 c1 c2 c3      T = 6

Where each token stands, which slot of the pool its keys and values go to, and which rows are scored
is derived here and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

BLOCK_LEN = 16
"""Tokens whose keys and values share a block of the pool."""


@dataclass(frozen=True, slots=True)
class SequencePart:
    """The tokens of one sequence that a pass computes."""

    token_ids: Sequence[int]  # at least one, each in [0, V)
    start: int  # position of the first; keys and values of all before are in the blocks
    block_ids: Sequence[int]  # of the pool, in order; room for all up to the last token
    num_logits: int  # positions to score, counted from the end
    num_hidden_states: int = 0  # positions whose final hidden state is wanted, likewise
    inputs: torch.Tensor | None = None  # [tokens, hidden] that go in with them; see `feature_draft`


@dataclass(frozen=True, slots=True)
class HiddenRows:
    """Which final hidden states a pass gives out."""

    kept: torch.Tensor  # [N] int64: which of the T tokens are scored or wanted, in order
    scored: torch.Tensor  # [R] int64: which of those N are scored
    wanted: torch.Tensor  # [h] int64: which of those N are wanted


@dataclass(frozen=True, slots=True)
class PackedPass:
    """What a model computes in one go: T tokens of S sequences, R of them scored."""

    parts: Sequence[SequencePart]
    token_ids: Sequence[int]  # [T]
    bounds: Sequence[int]  # [S + 1]: where the tokens of each sequence begin
    positions: torch.Tensor  # [T] int32, in their sequences
    slots: torch.Tensor  # [T] int64, in the pool: block * 16 + place
    starts: torch.Tensor  # [S + 1] int32: the bounds, on the CPU
    tables: torch.Tensor  # [S, longest] int32: block ids of each sequence, 0 where it has no more
    logit_rows: torch.Tensor  # [R] int64: which of the T to score, in order
    hidden_rows: HiddenRows | None = None  # None: no hidden state is wanted
    inputs: torch.Tensor | None = None  # [T, hidden] that go in with the tokens, if any do
    on_start: Callable[[], None] = lambda: None
    """Called by the model when it has begun: from then on other threads may want the
    interpreter."""

    @property
    def scores_all(self) -> bool:
        """Whether every token is scored."""
        return len(self.logit_rows) == len(self.token_ids)


def pack(
    parts: Sequence[SequencePart],
    device: torch.device | None = None,
    on_start: Callable[[], None] = lambda: None,
) -> PackedPass:
    """Lays the parts side by side, in their order."""
    bounds = [0, *accumulate(len(part.token_ids) for part in parts)]
    positions: list[int] = []
    slots: list[int] = []
    for part in parts:
        for position in range(part.start, part.start + len(part.token_ids)):
            positions.append(position)
            slots.append(part.block_ids[position // BLOCK_LEN] * BLOCK_LEN + position % BLOCK_LEN)
    rows = [
        row
        for part, end in zip(parts, bounds[1:], strict=True)
        for row in range(end - part.num_logits, end)
    ]
    return PackedPass(
        parts,
        [token_id for part in parts for token_id in part.token_ids],
        bounds,
        _tensor(positions, np.int32, device),
        _tensor(slots, np.int64, device),
        _tensor(bounds, np.int32, None),
        torch.as_tensor(_tables(parts), device=device),
        _tensor(rows, np.int64, device),
        _hidden_rows(parts, bounds, device) if any(p.num_hidden_states for p in parts) else None,
        _inputs(parts),
        on_start,
    )


def _tables(parts: Sequence[SequencePart]) -> npt.NDArray[np.int32]:
    """[S, longest]; block ids in an array are copied at once, not one by one."""
    tables = np.zeros((len(parts), max(len(part.block_ids) for part in parts)), dtype=np.int32)
    for table, part in zip(tables, parts, strict=True):
        table[: len(part.block_ids)] = part.block_ids
    return tables


def _hidden_rows(
    parts: Sequence[SequencePart], bounds: Sequence[int], device: torch.device | None
) -> HiddenRows:
    kept: list[int] = []
    scored: list[int] = []
    wanted: list[int] = []
    for part, end in zip(parts, bounds[1:], strict=True):
        kept += range(end - max(part.num_logits, part.num_hidden_states), end)
        scored += range(len(kept) - part.num_logits, len(kept))
        wanted += range(len(kept) - part.num_hidden_states, len(kept))
    return HiddenRows(*(_tensor(rows, np.int64, device) for rows in (kept, scored, wanted)))


def _inputs(parts: Sequence[SequencePart]) -> torch.Tensor | None:
    if all(part.inputs is None for part in parts):
        return None
    return torch.cat([part.inputs for part in parts if part.inputs is not None])


def _tensor(numbers: Sequence[Any], dtype: type, device: torch.device | None) -> torch.Tensor:
    """Through numpy, which reads lists three times as fast."""
    return torch.as_tensor(np.array(numbers, dtype=dtype), device=device)
