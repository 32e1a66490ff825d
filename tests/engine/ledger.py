"""A model whose logits tell which tokens it has in its cache, exactly and at no cost."""

from collections.abc import Sequence

import torch

from forethought.engine.cache.block_pool import BlockPool
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.packed import BLOCK_LEN, PackedPass
from tests.engine.token_pool import TokenPool

VOCAB_SIZE = 8
MAX_LEN = 96


class LedgerModel:
    """Logits are a hash of everything before. Keeps count of what it was made to compute."""

    vocab_size = VOCAB_SIZE
    max_model_len = MAX_LEN
    engine_name = "ledger"
    dtype_name = "float32"
    device_name = "cpu"
    kv_bytes_per_block = BLOCK_LEN

    def __init__(self) -> None:
        self.num_computed: list[int] = []  # tokens of each pass
        self.fails = False
        self._pool = TokenPool()

    def allocate(self, num_blocks: int) -> None:
        self._pool = TokenPool(num_blocks)

    def forward(self, packed: PackedPass) -> torch.Tensor:
        self.num_computed.append(len(packed.token_ids))
        prefixes = self._pool.scored_prefixes(packed)
        if self.fails:
            raise RuntimeError("broken off")
        return torch.tensor([ledger_row(prefix) for prefix in prefixes]).reshape(-1, VOCAB_SIZE)


def ledger_row(token_ids: Sequence[int]) -> list[float]:
    """What the model says after these tokens."""
    return [float(hash((*token_ids, column)) % 2**20) for column in range(VOCAB_SIZE)]


def a_sequence(token_ids: Sequence[int] = (), pool: BlockPool | None = None) -> CachedSequence:
    """A sequence, with a pool of its own if it is given none."""
    sequence = CachedSequence(pool or BlockPool(16), VOCAB_SIZE, MAX_LEN)
    sequence.extend(token_ids)
    return sequence
