"""A model that remembers its logits, for tests that ask the same few prefixes 20,000 times."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from forethought.engine.causal_model import CausalModel, KVCache


@dataclass
class TokenCache:
    """Holds tokens where a model's cache holds keys and values."""

    token_ids: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.token_ids)

    def truncate(self, length: int) -> None:
        del self.token_ids[length:]


class MemoizedModel:
    """Computes each prefix once, with the real model."""

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._rows: dict[tuple[int, ...], torch.Tensor] = {}
        self.vocab_size = model.vocab_size
        self.max_model_len = model.max_model_len
        self.engine_name = model.engine_name
        self.dtype_name = model.dtype_name
        self.device_name = model.device_name

    def new_cache(self) -> TokenCache:
        return TokenCache()

    def forward(self, token_ids: Sequence[int], cache: KVCache, num_logits: int) -> torch.Tensor:
        """As `CausalModel.forward`; the logits are the model's own, [num_logits, V]."""
        assert isinstance(cache, TokenCache)
        cache.token_ids += token_ids
        ends = range(cache.length - num_logits + 1, cache.length + 1)
        rows = [self.row(tuple(cache.token_ids[:end])) for end in ends]
        return torch.stack(rows) if rows else torch.empty(0, self.vocab_size)

    def row(self, prefix: tuple[int, ...]) -> torch.Tensor:
        """[V] logits after a prefix."""
        if prefix not in self._rows:
            fresh = self._model.new_cache()
            self._rows[prefix] = self._model.forward(prefix, fresh, 1)[0]
        return self._rows[prefix]
