"""The seam between training and the kinds of drafts."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import torch

from forethought.distill.samples.batches import Batch
from forethought.distill.samples.corpus import Corpus


class TrainableDraft(Protocol):
    """A draft that training can improve: a torch module."""

    @property
    def head(self) -> torch.Tensor:
        """[R, H] in the compute format, without gradient."""
        ...

    @property
    def feeds_back(self) -> bool:
        """Whether its own guesses enter later steps, so that unrolling them trains something."""
        ...

    def steps(self, corpus: Corpus, batch: Batch, num_steps: int) -> list[torch.Tensor]:
        """What the head multiplies at each token, for each drafted position: [B, L, H] float32.

        One that does not feed back returns a single step, whatever is asked.
        """
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What training changes."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Its values, for a checkpoint."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Takes them back."""
        ...

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """All that belongs into its file, by name."""
        ...
