"""Work that wants logits and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forethought.engine.cache.sequence import CachedSequence


@dataclass(frozen=True)
class Scoring:
    """Wants the logits after a commit and some guesses."""

    sequence: CachedSequence
    position: int
    committed: Sequence[int] = ()
    guesses: Sequence[int] = ()
    is_ahead: bool = False

    @property
    def num_logits(self) -> int:
        return len(self.guesses) + 1

    def begin(self) -> None:
        self.sequence.commit(self.position, self.committed)
        self.sequence.speculate(self.guesses)


Rows = list[list[float]]


def rows_of(works: Sequence[Scoring], logits: torch.Tensor) -> list[Rows]:
    """The logits, each to whom they belong."""
    return [rows.tolist() for rows in logits.split([work.num_logits for work in works])]
