"""The seam between sessions and the model that computes them.

A model turns tokens into logits and appends their keys and values to a cache. Everything that
speculation asks of it is here: extend a sequence by any number of tokens, score several positions
in one pass, and forget a suffix. Another engine replaces `TransformersModel` behind this seam.
"""

from collections.abc import Sequence
from typing import Protocol

import torch


class KVCache(Protocol):
    """The keys and values of one sequence. Belongs to the model that made it."""

    @property
    def length(self) -> int:
        """Tokens with keys and values in memory."""
        ...

    def truncate(self, length: int) -> None:
        """Forgets all tokens from `length` on; `length` is from 0 to the present length."""
        ...


class CausalModel(Protocol):
    """A causal language model. Not thread-safe: one engine thread calls it."""

    @property
    def vocab_size(self) -> int:
        """V, the number of token ids the model scores."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest sequence, tokens."""
        ...

    @property
    def engine_name(self) -> str:
        """Whose code computes it, "lean" or "transformers": the two round differently."""
        ...

    @property
    def dtype_name(self) -> str:
        """Number format of the weights, for example "bfloat16"."""
        ...

    @property
    def device_name(self) -> str:
        """Where it runs, for example "cpu" or "cuda:0"."""
        ...

    def new_cache(self) -> KVCache:
        """An empty cache."""
        ...

    def forward(self, token_ids: Sequence[int], cache: KVCache, num_logits: int) -> torch.Tensor:
        """Appends tokens to the sequence that `cache` holds.

        Args:
            token_ids: at least one, each in [0, V).
            cache: of this model. If this call raises, its content is undefined.
            num_logits: how many positions to score, counted from the end; 0 scores none.

        Returns:
            [num_logits, V] float32 on the model's device: row i scores the token that follows
            `token_ids[len(token_ids) - num_logits + i]`. The caller may keep it, not change it.
        """
        ...
