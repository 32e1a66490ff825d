"""The data of a run in memory, as training reads it."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from forethought.distill.data.shards import Samples, ShardFolder
from forethought.distill.samples.vocabulary import DraftVocabulary, answer_mask


@dataclass(frozen=True, slots=True)
class TopEntries:
    """The target's likeliest tokens at N positions."""

    rows: torch.Tensor  # [N, k] int64: rows of the draft's head; R is a token without one
    probs: torch.Tensor  # [N, k] float32, at temperature 1; the rest of 1 is elsewhere

    def __getitem__(self, index: Any) -> "TopEntries":
        return TopEntries(self.rows[index], self.probs[index])


@dataclass(frozen=True, slots=True)
class Corpus:
    """All samples, one after another."""

    samples: Samples
    token_ids: torch.Tensor  # [T] int64
    rows: torch.Tensor  # [T] int64: the tokens as rows of the draft's vocabulary
    features: torch.Tensor  # [T, H] float16
    top_rows: torch.Tensor  # [T, k] int32
    top_logprobs: torch.Tensor  # [T, k] float16
    is_answer: np.ndarray  # [T] bool

    @classmethod
    def read(cls, shards: ShardFolder, vocabulary: DraftVocabulary, num_top: int) -> Self:
        """Of each distribution no more than `num_top` entries are kept."""
        samples = joined(list(shards.samples()))
        features, top_rows, top_logprobs = [], [], []
        for outputs in shards.outputs():
            features.append(outputs.features)
            top_rows.append(vocabulary.rows[outputs.top_token_ids[:, :num_top].long()].int())
            top_logprobs.append(outputs.top_logprobs[:, :num_top].clone())
        token_ids = torch.from_numpy(samples.token_ids.astype(np.int64))
        return cls(
            samples,
            token_ids,
            vocabulary.rows[token_ids],
            torch.cat(features),
            torch.cat(top_rows),
            torch.cat(top_logprobs),
            answer_mask(samples),
        )

    def top(self, index: torch.Tensor) -> TopEntries:
        """What the target expects after the tokens at `index`, [N]."""
        return TopEntries(self.top_rows[index].long(), self.top_logprobs[index].float().exp())

    def split(self, held_out_every: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the samples to train on, and of those held out: one in so many.

        They are drawn, since openings and temperatures come in turns.
        """
        numbers = np.random.default_rng(0).permutation(self.samples.num_samples)
        num_held_out = -(-len(numbers) // held_out_every)
        return np.sort(numbers[num_held_out:]), np.sort(numbers[:num_held_out])


def joined(shards: list[Samples]) -> Samples:
    """Several shards as one."""
    offsets = np.cumsum([0, *(shard.num_tokens for shard in shards)])
    starts = [shard.starts[:-1] + at for shard, at in zip(shards, offsets, strict=False)]
    answers = [shard.answer_starts + at for shard, at in zip(shards, offsets, strict=False)]
    return Samples(
        np.concatenate([shard.token_ids for shard in shards]),
        np.concatenate([*starts, offsets[-1:]]),
        np.concatenate(answers),
        np.concatenate([shard.temperatures for shard in shards]),
        np.concatenate([shard.kinds for shard in shards]),
    )
