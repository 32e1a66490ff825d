"""Matrices of small whole numbers: each group of 32 neighbours in a row shares its factors.

    4 bits    weight = scale * value + minimum        value in 0..15
    8 bits    weight = scale * value                  value in -128..127

This is what Q4_1 and Q8_0 of ggml store, and Q4_0 with a minimum of -8 scales, so they become
groups without a change to any number. Dense matrices are rounded to groups of 4 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from forethought.engine.weights.gguf_file import GGUFTensor

GROUP_SIZE = 32
INT4_KINDS = frozenset({"Q4_0", "Q4_1"})
INT8_KINDS = frozenset({"Q8_0"})


@dataclass(frozen=True, slots=True)
class Int4Groups:
    """A matrix of N rows and K columns; K is a multiple of 32."""

    pairs: torch.Tensor  # [N, K / 32, 16] uint8: values i and i + 16 of a group, in 4 bits each
    scales: torch.Tensor  # [N, K / 32] float32
    minimums: torch.Tensor  # [N, K / 32] float32

    @classmethod
    def from_gguf(cls, tensor: GGUFTensor) -> Self:
        """The numbers of a Q4_0 or Q4_1 matrix as they are stored.

        A block of ggml: the scale and, in Q4_1, the minimum as float16, then 16 bytes that hold
        value i in their lower and value i + 16 in their upper half, as here.
        """
        num_rows, num_columns = tensor.shape
        num_factors = 2 if tensor.kind == "Q4_1" else 1
        blocks = tensor.data.reshape(num_rows, num_columns // GROUP_SIZE, -1)
        factors = np.ascontiguousarray(blocks[..., : 2 * num_factors]).view(np.float16)
        numbers = torch.from_numpy(factors.astype(np.float32))  # [N, K / 32, 1 or 2]
        pairs = torch.from_numpy(blocks[..., 2 * num_factors :].copy())
        scales = numbers[..., 0].contiguous()
        minimums = numbers[..., 1].contiguous() if num_factors == 2 else scales * -8
        return cls(pairs, scales, minimums)

    @classmethod
    def rounded(cls, weight: torch.Tensor) -> Self:
        """The nearest of 16 evenly spaced levels between the least and the largest of a group."""
        groups = weight.float().view(len(weight), -1, GROUP_SIZE)  # [N, K / 32, 32]
        least, most = groups.aminmax(dim=-1)
        scales = ((most - least) / 15).clamp(min=torch.finfo(torch.float32).tiny)
        values = ((groups - least[..., None]) / scales[..., None]).round_().to(torch.uint8)
        half = GROUP_SIZE // 2
        return cls(values[..., :half] | values[..., half:] << 4, scales, least)

    @classmethod
    def stacked(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts in one matrix."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.pairs for part in parts]),
            torch.cat([part.scales for part in parts]),
            torch.cat([part.minimums for part in parts]),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        num_rows, num_groups = self.scales.shape
        return num_rows, num_groups * GROUP_SIZE

    @property
    def values(self) -> torch.Tensor:
        """[N, K] uint8 in 0..15."""
        return torch.cat([self.pairs & 15, self.pairs >> 4], dim=-1).view(self.shape)

    def dequantized(self) -> torch.Tensor:
        """[N, K] float32."""
        groups = self.values.view(*self.scales.shape, GROUP_SIZE).float()
        return (groups * self.scales[..., None] + self.minimums[..., None]).view(self.shape)


@dataclass(frozen=True, slots=True)
class Int8Groups:
    """A matrix of N rows and K columns; K is a multiple of 32."""

    values: torch.Tensor  # [N, K] int8
    scales: torch.Tensor  # [N, K / 32] float32

    @property
    def shape(self) -> tuple[int, int]:
        """N and K."""
        num_rows, num_columns = self.values.shape
        return num_rows, num_columns

    @classmethod
    def from_gguf(cls, tensor: GGUFTensor) -> Self:
        """The numbers of a Q8_0 matrix as they are stored: a float16 scale, then 32 bytes."""
        num_rows, num_columns = tensor.shape
        blocks = tensor.data.reshape(num_rows, num_columns // GROUP_SIZE, -1)
        scales = np.ascontiguousarray(blocks[..., :2]).view(np.float16).astype(np.float32)
        values = blocks[..., 2:].copy().view(np.int8)
        return cls(
            torch.from_numpy(values.reshape(num_rows, num_columns)),
            torch.from_numpy(scales.reshape(num_rows, -1)),
        )

    @classmethod
    def stacked(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts in one matrix."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            torch.cat([part.values for part in parts]), torch.cat([part.scales for part in parts])
        )

    def dequantized(self) -> torch.Tensor:
        """[N, K] float32."""
        groups = self.values.view(*self.scales.shape, GROUP_SIZE).float()
        return (groups * self.scales[..., None]).view(self.values.shape)
