"""The files that data generation leaves behind: texts, and what the target computed on them.

`data/NNNNN.npz` holds samples, and is all that other tools need. `outputs/NNNNN.safetensors` holds,
row for row, what the target's forward passes brought anyway: training never runs the target again.
Files appear whole or not at all, the samples last: a shard whose samples are there is complete.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file


@dataclass(frozen=True, slots=True)
class Samples:
    """User turns and their answers, one sample after another."""

    token_ids: np.ndarray  # [T] uint32, prompts and answers
    starts: np.ndarray  # [S + 1] int64, where samples begin in token_ids
    answer_starts: np.ndarray  # [S] int64, where their answers do
    temperatures: np.ndarray  # [S] float32, that answers were drawn at
    kinds: np.ndarray  # [S] int16, number in `openings.KINDS`; -1 of a given text

    @property
    def num_samples(self) -> int:
        return len(self.answer_starts)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @classmethod
    def read(cls, path: Path) -> Self:
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls.__slots__})

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **{name: getattr(self, name) for name in self.__slots__})
        partial.replace(path)


@dataclass(frozen=True, slots=True)
class TargetOutputs:
    """What the target computed at each token of a shard.

    The last token of a sample was drawn and never computed: its row is all zeros.
    """

    features: torch.Tensor  # [T, H] float16: hidden states after the final norm
    top_token_ids: torch.Tensor  # [T, k] int32: the likeliest next tokens, in falling order
    top_logprobs: torch.Tensor  # [T, k] float16: their log-probabilities at temperature 1

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls(**load_file(path))

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        save_file({name: getattr(self, name) for name in self.__slots__}, partial)
        partial.replace(path)


@dataclass(frozen=True, slots=True)
class ShardFolder:
    """The shards of a run, numbered from 0 without gaps."""

    folder: Path

    def samples_path(self, index: int) -> Path:
        return self.folder / "data" / f"{index:05}.npz"

    def outputs_path(self, index: int) -> Path:
        return self.folder / "outputs" / f"{index:05}.safetensors"

    @property
    def num_shards(self) -> int:
        """Complete ones."""
        index = 0
        while self.samples_path(index).exists():
            index += 1
        return index

    def write(self, index: int, samples: Samples, outputs: TargetOutputs) -> None:
        for path in (self.outputs_path(index), self.samples_path(index)):
            path.parent.mkdir(parents=True, exist_ok=True)
        outputs.write(self.outputs_path(index))
        samples.write(self.samples_path(index))

    def samples(self) -> Iterator[Samples]:
        for index in range(self.num_shards):
            yield Samples.read(self.samples_path(index))

    def outputs(self) -> Iterator[TargetOutputs]:
        for index in range(self.num_shards):
            yield TargetOutputs.read(self.outputs_path(index))
