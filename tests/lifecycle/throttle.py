"""Models that take as long for a pass as a test says, without using the processor for it."""

import time
from copy import copy
from dataclasses import replace

import torch

from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import PackedPass
from tests.stack import LoadedModel


class ThrottledModel:
    """A model whose every pass takes at least so many seconds."""

    def __init__(self, model: CausalModel, pass_s: float) -> None:
        self._model = model
        self._pass_s = pass_s
        self.vocab_size = model.vocab_size
        self.hidden_size = model.hidden_size
        self.max_model_len = model.max_model_len
        self.engine_name = model.engine_name
        self.dtype_name = model.dtype_name
        self.device_name = model.device_name
        self.kv_bytes_per_block = model.kv_bytes_per_block

    def __copy__(self) -> "ThrottledModel":
        return ThrottledModel(copy(self._model), self._pass_s)

    def allocate(self, num_blocks: int) -> None:
        self._model.allocate(num_blocks)

    def forward(self, packed: PackedPass) -> torch.Tensor:
        ends = time.perf_counter() + self._pass_s
        logits = self._model.forward(packed)
        # What a slow device would do, not a wait for luck: the pass is simulated time.
        time.sleep(max(ends - time.perf_counter(), 0))
        return logits


def throttled(model: LoadedModel, pass_s: float) -> LoadedModel:
    """The model, with passes that take so long."""
    return replace(model, model=ThrottledModel(model.model, pass_s))
