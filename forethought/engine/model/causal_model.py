"""The seam between the batching engine and the model that computes."""

from typing import Protocol

import torch

from forethought.engine.model.kv_layout import KVLayout, Numbers
from forethought.engine.model.packed import PackedPass


class CausalModel(Protocol):
    """A causal language model with the keys and values of all its sequences, in blocks.

    Not thread-safe: one engine thread calls it.
    """

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids the model scores."""
        ...

    @property
    def hidden_size(self) -> int:
        """Elements of a final hidden state; 0 if it can give none."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest sequence, tokens."""
        ...

    @property
    def engine_name(self) -> str:
        """Whose code computes it, such as "lean-7" or "transformers": each rounds differently."""
        ...

    @property
    def dtype_name(self) -> str:
        """Number format of the weights, for example "bfloat16"."""
        ...

    @property
    def device_name(self) -> str:
        """Where it runs, for example "cpu" or "cuda:0"."""
        ...

    @property
    def kv_bytes_per_block(self) -> int:
        """Memory of the keys and values of `BLOCK_LEN` tokens in all layers."""
        ...

    @property
    def kv_layout(self) -> KVLayout:
        """How a block's keys and values stand side by side when they are read out."""
        ...

    def allocate(self, num_blocks: int) -> None:
        """Makes the pool, for blocks 0 to num_blocks - 1. What an earlier pool held is lost."""
        ...

    def forward(self, packed: PackedPass) -> torch.Tensor:
        """Computes all tokens of a pass, and puts their keys and values into the pool.

        It calls `packed.on_start` as soon as it has begun: until then, or until it returns, nobody
        hears of the results of the pass before.

        If this call raises, what the pool holds for these tokens is undefined.

        Returns:
            [R, V] float32 on the model's device: row i scores the token that follows
            `packed.logit_rows[i]`. The caller may keep it, not change it.
        """
        ...

    def forward_with_states(self, packed: PackedPass) -> tuple[torch.Tensor, torch.Tensor]:
        """As `forward`, for a pass that wants hidden states.

        Returns:
            The same logits, and [h, hidden] the final hidden states of the wanted rows, in any
            floating format: after the last norm, what the head multiplies.
        """
        ...

    def read_block(self, block_id: int) -> Numbers:
        """A copy of a block's keys and values, [N] laid out as `kv_layout` says."""
        ...

    def write_block(self, block_id: int, numbers: Numbers) -> None:
        """Puts back what `read_block` of a model with the same `kv_layout` has returned."""
        ...


def device_of(model: CausalModel) -> torch.device:
    """Where it runs."""
    return torch.device(model.device_name)
