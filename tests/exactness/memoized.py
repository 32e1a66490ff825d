"""A model that remembers its logits, for tests that ask the same few prefixes 20,000 times."""

import torch

from forethought.engine.model.causal_model import CausalModel
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack
from tests.engine.token_pool import TokenPool


class MemoizedModel:
    """Computes each prefix once, with the real model."""

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._rows: dict[tuple[int, ...], torch.Tensor] = {}
        self._states: dict[tuple[int, ...], torch.Tensor] = {}
        self._pool = TokenPool()
        self.vocab_size = model.vocab_size
        self.hidden_size = model.hidden_size
        self.max_model_len = model.max_model_len
        self.engine_name = model.engine_name
        self.dtype_name = model.dtype_name
        self.device_name = model.device_name
        self.kv_bytes_per_block = model.kv_bytes_per_block

    def allocate(self, num_blocks: int) -> None:
        self._pool = TokenPool(num_blocks)
        self._model.allocate(-(-self.max_model_len // BLOCK_LEN))

    def forward(self, packed: PackedPass) -> torch.Tensor:
        """As `CausalModel.forward`; the logits are the model's own."""
        rows = [self.row(tuple(prefix)) for prefix in self._pool.scored_prefixes(packed)]
        return torch.stack(rows) if rows else torch.empty(0, self.vocab_size)

    def forward_with_states(self, packed: PackedPass) -> tuple[torch.Tensor, torch.Tensor]:
        """As `CausalModel.forward_with_states`."""
        counts = [max(part.num_logits, part.num_hidden_states) for part in packed.parts]
        kept = [tuple(prefix) for prefix in self._pool.prefixes(packed, counts)]
        rows = packed.hidden_rows
        assert rows is not None
        states = [self.state(kept[place]) for place in rows.wanted.tolist()]
        logits = [self.row(kept[place]) for place in rows.scored.tolist()]
        none = torch.empty(0, self.vocab_size)
        return torch.stack(logits) if logits else none, torch.stack(states)

    def state(self, prefix: tuple[int, ...]) -> torch.Tensor:
        """[hidden] at the last token of a prefix."""
        if prefix not in self._states:
            blocks = range(-(-len(prefix) // BLOCK_LEN))
            part = SequencePart(prefix, 0, blocks, 1, 1)
            self._states[prefix] = self._model.forward_with_states(pack([part]))[1][0]
        return self._states[prefix]

    def row(self, prefix: tuple[int, ...]) -> torch.Tensor:
        """[V] logits after a prefix."""
        if prefix not in self._rows:
            blocks = range(-(-len(prefix) // BLOCK_LEN))
            self._rows[prefix] = self._model.forward(pack([SequencePart(prefix, 0, blocks, 1)]))[0]
        return self._rows[prefix]
