"""The weights of a model, one interface to wherever they lie; each is read when it is asked for.

Names are those of transformers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

from forethought.engine.weights.gguf_file import GGUFTensor
from forethought.engine.weights.weight_groups import Int4Groups, Int8Groups

Embedding = Callable[[Sequence[int]], torch.Tensor]
"""T token ids -> [T, hidden] float32, the caller's own."""


class Checkpoint(Protocol):
    """The weights of a model."""

    @property
    def rotates_pairs(self) -> bool:
        """Whether numbers that rotate together are neighbours in the rows of q and k, as ggml has
        it, or half a head apart, as transformers has it."""
        ...

    def __contains__(self, name: str) -> bool: ...

    def shapes(self) -> Mapping[str, Sequence[int]]:
        """Of all the weights, by their names."""
        ...

    def sizes(self) -> Mapping[str, int]:
        """Bytes of each as it is stored."""
        ...

    def dense(self, name: str) -> torch.Tensor:
        """The weight in the number format that it is stored in, float32 if it is quantised.

        Raises:
            KeyError: there is none of this name.
        """
        ...

    def embedding(self, name: str) -> Embedding | None:
        """What reads rows of a matrix from the file, None if it is better kept in memory."""
        ...

    def int4(self, name: str) -> Int4Groups | None:
        """The matrix if it is stored in groups of 4-bit numbers."""
        ...

    def int8(self, name: str) -> Int8Groups | None:
        """The matrix if it is stored in groups of 8-bit numbers."""
        ...

    def stored(self, name: str) -> GGUFTensor | None:
        """The matrix as a GGUF file has it, if it can be computed so."""
        ...

    def rows_of(self, name: str, rows: torch.Tensor) -> "Checkpoint":
        """A checkpoint of one matrix alone, with some of its rows, stored as they are here."""
        ...

    def forget(self) -> None:
        """What has been read so far is not read again soon, and may leave memory."""
        ...

    def close(self) -> None:
        """All is read; what embeddings still read later stays readable."""
        ...
