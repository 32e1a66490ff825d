"""A model whose logits tell which tokens it has in its cache, exactly and at no cost."""

from collections.abc import Sequence

import torch

from forethought.engine.causal_model import KVCache

VOCAB_SIZE = 8
MAX_LEN = 96


class LedgerCache:
    """Keys and values are the tokens themselves."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []

    @property
    def length(self) -> int:
        return len(self.token_ids)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= self.length
        del self.token_ids[length:]


class LedgerModel:
    """Logits are a hash of everything before. Keeps count of what it was made to compute."""

    vocab_size = VOCAB_SIZE
    max_model_len = MAX_LEN
    engine_name = "ledger"
    dtype_name = "float32"
    device_name = "cpu"

    def __init__(self) -> None:
        self.num_computed: list[int] = []  # tokens of each pass
        self.fails = False

    def new_cache(self) -> LedgerCache:
        return LedgerCache()

    def forward(self, token_ids: Sequence[int], cache: KVCache, num_logits: int) -> torch.Tensor:
        assert isinstance(cache, LedgerCache)
        assert len(token_ids) >= max(num_logits, 1)
        self.num_computed.append(len(token_ids))
        cache.token_ids.extend(token_ids)
        if self.fails:
            raise RuntimeError("broken off")
        lengths = range(cache.length - num_logits + 1, cache.length + 1)
        rows = [ledger_row(cache.token_ids[:length]) for length in lengths]
        return torch.tensor(rows).reshape(num_logits, VOCAB_SIZE)


def ledger_row(token_ids: Sequence[int]) -> list[float]:
    """What the model says after these tokens."""
    return [float(hash((*token_ids, column)) % 2**20) for column in range(VOCAB_SIZE)]
