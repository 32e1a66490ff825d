"""Rows over a vocabulary in two levels: what a block holds, then what is in one block of it.

Finding one entry among 50,000 is a search over 200 blocks and one over 256 entries. torch's
argmax over a long row takes 0.24 ms for [5, 49152] where its amax over blocks takes 0.02.
"""

import torch
from torch.nn import functional

BLOCK_LEN = 256


def in_blocks(rows: torch.Tensor, fill: float) -> torch.Tensor:
    """[n, V] -> [n, ceil(V / 256), 256], padded at the end; a view where nothing needs padding."""
    surplus = -rows.shape[-1] % BLOCK_LEN
    padded = functional.pad(rows, (0, surplus), value=fill) if surplus else rows
    return padded.reshape(len(rows), -1, BLOCK_LEN)


def argmax_in_blocks(blocks: torch.Tensor) -> torch.Tensor:
    """[n, blocks, 256] -> [n]: where each row has its largest entry, the first one of equals."""
    block = blocks.amax(dim=-1).argmax(dim=-1)  # [n]
    return block * BLOCK_LEN + _chosen(blocks, block).argmax(dim=-1)


def invert_in_blocks(
    blocks: torch.Tensor, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws an entry of each row with probability proportional to its weight, by inversion.

    Args:
        blocks: [n, blocks, 256] weights, not negative.
        uniforms: [n] float64 draws from [0, 1).

    Returns:
        [n] the entries drawn, each with a weight above zero unless the row has none, and
        [n] float64 the rows' sums.
    """
    cumulative = blocks.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)  # [n, blocks]
    total = cumulative[:, -1]  # [n]
    threshold = uniforms * total
    block = _first_above(cumulative, threshold)  # [n]
    before = cumulative.gather(1, (block - 1).clamp(min=0)[:, None])[:, 0].where(block > 0, 0.0)
    inside = _chosen(blocks, block).cumsum(dim=-1, dtype=torch.float64)  # [n, 256]
    return block * BLOCK_LEN + _first_above(inside, threshold - before), total


def _chosen(blocks: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """[n, blocks, 256], [n] -> [n, 256]: one block of each row."""
    return blocks[torch.arange(len(blocks), device=blocks.device), block]


def _first_above(cumulative: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """[n, m], [n] -> [n]: the first entry of each row whose cumulative weight exceeds a threshold.

    That entry has a weight above zero. Rounding may put the threshold just outside the row's range
    [0, total); it counts as the nearest value inside. A row without weight gives its last entry.
    """
    total = cumulative[:, -1]
    inside = threshold.clamp(min=0.0).minimum(total.nextafter(torch.zeros_like(total)))
    first = torch.searchsorted(cumulative, inside[:, None], right=True)[:, 0]
    return first.clamp(max=cumulative.shape[-1] - 1)
