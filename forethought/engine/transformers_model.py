"""Any causal language model of transformers, one sequence at a time, through its own code.

Speculation rolls back, so every layer keeps the whole sequence, those with sliding-window or
chunked attention too: transformers' sliding cache layers drop what has left the window, and a
rollback would want it again. The model's attention mask hides it instead, with equal results.
This is what a `DynamicCache` made without a configuration does.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from forethought.engine.causal_model import KVCache


class TransformersCache:
    """Keys and values of one sequence: for each layer [1, heads, length, head size]."""

    __slots__ = ("dynamic",)

    def __init__(self) -> None:
        self.dynamic: Any = DynamicCache()

    @property
    def length(self) -> int:
        return int(self.dynamic.get_seq_length())

    def truncate(self, length: int) -> None:
        surplus = self.length - length
        # A negative number of tokens to remove is what all versions understand; a positive one
        # was the length to keep, and is refused today. 0 was "keep nothing", and is "keep all".
        if surplus > 0:
            self.dynamic.crop(-surplus)


class TransformersModel:
    """`CausalModel` over a loaded transformers model.

    Raises:
        ValueError: the model keeps state that cannot be rolled back, such as that of a recurrent
            layer.
    """

    engine_name = "transformers"

    def __init__(self, model: PreTrainedModel, max_model_len: int) -> None:
        self._model: Any = model
        self._device = torch.device(model.device)
        self.max_model_len = max_model_len
        self.dtype_name = str(model.dtype).removeprefix("torch.")
        self.device_name = str(self._device)
        self.vocab_size = self._probe()

    def new_cache(self) -> TransformersCache:
        return TransformersCache()

    @torch.inference_mode()
    def forward(self, token_ids: Sequence[int], cache: KVCache, num_logits: int) -> torch.Tensor:
        if not isinstance(cache, TransformersCache):
            raise TypeError(f"a cache of another engine: {type(cache).__name__}")
        # The tokens as a batch of one: [1, T].
        input_ids = torch.tensor([token_ids], dtype=torch.long, device=self._device)
        # [1, max(num_logits, 1), V]; to transformers 0 means every position.
        logits = self._model(
            input_ids=input_ids,
            past_key_values=cache.dynamic,
            use_cache=True,
            logits_to_keep=max(num_logits, 1),
        ).logits
        scored: torch.Tensor = logits[0, logits.shape[1] - num_logits :]  # [num_logits, V]
        return scored.float()

    def _probe(self) -> int:
        """Two tokens in, one back out: whether rollback works. Returns the vocabulary size."""
        cache = self.new_cache()
        vocab_size = self.forward([0, 0], cache, 1).shape[-1]
        if not all(type(layer) is DynamicLayer for layer in cache.dynamic.layers):
            raise ValueError("the model keeps state besides keys and values of attention")
        cache.truncate(1)
        if cache.length != 1:
            raise ValueError("the model's cache cannot be rolled back")
        return int(vocab_size)
