"""A pool that keeps tokens where a model's keeps their keys and values."""

from collections.abc import Iterator

import torch

from forethought.engine.causal_model import CausalModel, device_of
from forethought.engine.packed import BLOCK_LEN, PackedPass, pack
from forethought.engine.sequence import CachedSequence


class TokenPool:
    """Tokens by slot; -1 where none was ever put."""

    def __init__(self, num_blocks: int = 0) -> None:
        self._slots = [-1] * (num_blocks * BLOCK_LEN)

    def scored_prefixes(self, packed: PackedPass) -> Iterator[list[int]]:
        """Puts the tokens of a pass into their slots; all that each scored position has before it
        and itself."""
        for slot, token_id in zip(packed.slots.tolist(), packed.token_ids, strict=True):
            self._slots[slot] = token_id
        for part in packed.parts:
            end = part.start + len(part.token_ids)
            held = [
                token_id
                for block_id in part.block_ids
                for token_id in self._slots[block_id * BLOCK_LEN : (block_id + 1) * BLOCK_LEN]
            ]
            assert len(part.token_ids) >= max(part.num_logits, 1)
            assert -1 not in held[:end]
            for length in range(end - part.num_logits + 1, end + 1):
                yield held[:length]


def compute(
    model: CausalModel, sequence: CachedSequence, num_logits: int, max_tokens: int = 10**9
) -> torch.Tensor:
    """Computes all of a sequence's log, alone and in chunks; [num_logits, V] of its end."""
    while sequence.num_uncomputed > max(num_logits, max_tokens):
        chunk = min(max_tokens, sequence.num_uncomputed - num_logits)
        run(model, sequence, chunk, 0)
    return run(model, sequence, sequence.num_uncomputed, num_logits)


def run(
    model: CausalModel, sequence: CachedSequence, num_tokens: int, num_logits: int
) -> torch.Tensor:
    """One pass over the next tokens of one sequence."""
    part = sequence.part(num_tokens, num_logits)
    assert part is not None
    logits = model.forward(pack([part], device_of(model)))
    sequence.computed(num_tokens)
    return logits
