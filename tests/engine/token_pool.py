"""A pool that keeps tokens where a model's keeps their keys and values."""

from collections.abc import Iterator, Sequence

import torch

from forethought.engine.cache.sequence import CachedSequence, num_blocks_for
from forethought.engine.model.causal_model import CausalModel, device_of
from forethought.engine.model.packed import BLOCK_LEN, PackedPass, SequencePart, pack


class TokenPool:
    """Tokens by slot; -1 where none was ever put."""

    def __init__(self, num_blocks: int = 0) -> None:
        self._slots = [-1] * (num_blocks * BLOCK_LEN)

    def scored_prefixes(self, packed: PackedPass) -> Iterator[list[int]]:
        """Puts the tokens of a pass into their slots; all that each scored position has before it
        and itself."""
        return self.prefixes(packed, [part.num_logits for part in packed.parts])

    def prefixes(self, packed: PackedPass, counts: Sequence[int]) -> Iterator[list[int]]:
        """The same for so many positions of each part, counted from its end."""
        for slot, token_id in zip(packed.slots.tolist(), packed.token_ids, strict=True):
            self._slots[slot] = token_id
        for part, count in zip(packed.parts, counts, strict=True):
            end = part.start + len(part.token_ids)
            held = [
                token_id
                for block_id in part.block_ids
                for token_id in self._slots[block_id * BLOCK_LEN : (block_id + 1) * BLOCK_LEN]
            ]
            assert len(part.token_ids) >= max(count, 1)
            assert -1 not in held[:end]
            for length in range(end - count + 1, end + 1):
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


def score(
    model: CausalModel, sequence: CachedSequence, draft_token_ids: Sequence[int]
) -> torch.Tensor:
    """[K + 1, V] after the last committed token and each guess, as a target tier does it."""
    sequence.speculate(draft_token_ids)
    return compute(model, sequence, len(draft_token_ids) + 1)


def step(model: CausalModel, sequence: CachedSequence, token_id: int) -> torch.Tensor:
    """[V] after one more guess, as a draft tier does it."""
    sequence.guess(token_id)
    return compute(model, sequence, 1)[0]


def whole_pass(
    model: CausalModel, token_ids: Sequence[int], num_logits: int | None = None
) -> torch.Tensor:
    """[num_logits, V] of the end of a text, of all of it if not told, in a pool of its own."""
    num_blocks = num_blocks_for(len(token_ids))
    model.allocate(num_blocks)
    wanted = len(token_ids) if num_logits is None else num_logits
    part = SequencePart(token_ids, 0, range(num_blocks), wanted)
    return model.forward(pack([part], device_of(model)))
