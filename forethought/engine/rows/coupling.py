"""Choices by noise that draft and target share, for whole rows of a vocabulary.

The token with the least E / p, with exponential noise E, is a sample of p; `sampling/coupled.py`
says what for. `KeyedRandomness.exponential` says what the noise of a token is: whole numbers of 64
bits up to its logarithm, so that every device and every tier comes to the same but for the last bit
of a double. Of a whole row it costs more than everything else that is done with the row, so
`rows.c` computes it only where it can decide; `torch_rows.py` computes all of it.

Probabilities are left as they are, float32, and not normalised: they cross the wire without loss,
and are to the orchestrator's choice bit for bit what they were to the choice made here.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

from forethought.engine.rows import native_rows, torch_rows
from forethought.engine.rows.draws import flat_supports
from forethought.sampling.types import DraftedToken, PositionEvidence, coupled_guess


@torch.inference_mode()
def draw_coupled(probs: torch.Tensor, keys: Sequence[int]) -> list[DraftedToken]:
    """The draft's choice at each row.

    Args:
        probs: [n, V] float32, q.
        keys: [n], of 64 bits.
    """
    choose = native_rows.choose if native_rows.takes(probs) else torch_rows.choose
    return [coupled_guess(token_id) for token_id in choose(probs, keys)]


@torch.inference_mode()
def measure_coupled(
    probs: torch.Tensor, supports: Sequence[Sequence[int]], keys: Sequence[int]
) -> list[PositionEvidence]:
    """As `draws.measure`, but tail tokens are chosen by shared noise.

    Args:
        probs: [n, V] float32, not changed; n = K + 1.
        supports: for each row the tokens whose probability is wanted; empty for the bonus row.
        keys: [n], of 64 bits.

    Raises:
        InvalidArgumentError: a support holds what is not a token.
    """
    flat = flat_supports(supports, vocab_size=probs.shape[-1])
    rows = native_rows if native_rows.takes(probs) else torch_rows
    measures = rows.measure_coupled(probs, flat, keys)
    return [
        PositionEvidence(
            target_probs=measures.on_support[start:end],
            tail_mass=tail_mass,
            tail_token_id=tail_id if tail_mass else 0,
            tail_token_prob=tail_prob if tail_mass else 0.0,
            greedy_token_id=greedy_id,
        )
        for (start, end), tail_mass, tail_id, tail_prob, greedy_id in zip(
            pairwise(flat.bounds),
            measures.tail_masses,
            measures.tail_ids,
            measures.tail_probs,
            measures.greedy_ids,
            strict=True,
        )
    ]
