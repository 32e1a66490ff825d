"""Choices by noise that draft and target share, for whole rows of a vocabulary.

The token with the least E / p, with exponential noise E, is a sample of p; `sampling/coupled.py`
says what for. The noise is a function of a key and the token id. It is computed in whole numbers of
64 bits up to its logarithm, so that every device and every tier comes to the same but for the last
bit of a double.

Probabilities are left as they are, float32, and not normalised: they cross the wire without loss,
and are to the orchestrator's choice bit for bit what they were to the choice made here.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

from forethought.engine.blocks import argmax_in_blocks, in_blocks
from forethought.engine.draws import flat_supports
from forethought.sampling.randomness import (
    EXPONENTIAL_SHIFT,
    EXPONENTIAL_UNIT,
    SPLITMIX64_LAST_SHIFT,
    SPLITMIX64_MIX,
    SPLITMIX64_STEP,
)
from forethought.sampling.types import (
    DraftedToken,
    PositionEvidence,
    as_probabilities,
    coupled_guess,
)


@torch.inference_mode()
def exponentials(keys: Sequence[int], vocab_size: int, device: torch.device) -> torch.Tensor:
    """The noise of every token, as `KeyedRandomness.exponential` has it for one.

    Args:
        keys: [n], of 64 bits, one for each row.
        vocab_size: V.
        device: where the noise is wanted.

    Returns:
        [n, V] float64, above zero.
    """
    seeds = torch.tensor([_signed(key) for key in keys], device=device)  # [n]
    bits = seeds[:, None] + _steps(vocab_size, device)  # [n, V]; wraps around
    for shift, factor in SPLITMIX64_MIX:
        bits = (bits ^ _shifted(bits, shift)).mul_(_signed(factor))
    bits ^= _shifted(bits, SPLITMIX64_LAST_SHIFT)
    uniforms = _shifted(bits, EXPONENTIAL_SHIFT).double().add_(0.5).mul_(EXPONENTIAL_UNIT)
    return uniforms.log_().neg_()


@torch.inference_mode()
def draw_coupled(probs: torch.Tensor, keys: Sequence[int]) -> list[DraftedToken]:
    """The draft's choice at each row.

    Args:
        probs: [n, V] float32, q.
        keys: [n].
    """
    return [coupled_guess(token_id) for token_id in _choices(probs, keys).tolist()]


@torch.inference_mode()
def measure_coupled(
    probs: torch.Tensor, supports: Sequence[Sequence[int]], keys: Sequence[int]
) -> list[PositionEvidence]:
    """As `draws.measure`, but tail tokens are chosen by shared noise.

    Args:
        probs: [n, V] float32, not changed; n = K + 1.
        supports: for each row the tokens whose probability is wanted; empty for the bonus row.
        keys: [n].

    Raises:
        InvalidArgumentError: a support holds what is not a token.
    """
    flat = flat_supports(supports, vocab_size=probs.shape[-1])
    rows, columns = flat.rows, flat.token_ids
    tail = probs.clone()
    tail[rows, columns] = 0
    tail_ids = _choices(tail, keys)  # [n]
    tail_masses = in_blocks(tail, 0.0).sum(dim=-1, dtype=torch.float64).sum(dim=-1)  # [n]
    tail_probs = tail.gather(1, tail_ids[:, None])[:, 0]
    greedy_ids = argmax_in_blocks(in_blocks(probs, 0.0))
    on_support = as_probabilities(probs[rows, columns].cpu().numpy())
    return [
        PositionEvidence(target_probs, *values)
        for target_probs, *values in zip(
            np.split(on_support, flat.bounds[1:-1]),
            tail_masses.tolist(),
            tail_ids.tolist(),
            tail_probs.tolist(),
            greedy_ids.tolist(),
            strict=True,
        )
    ]


def _choices(weights: torch.Tensor, keys: Sequence[int]) -> torch.Tensor:
    """[n, V], [n] -> [n]: the token with the least E / weight; one with weight, if there is one."""
    # Without weight a score is infinite.
    return exponentials(keys, weights.shape[-1], weights.device).div_(weights).argmin(dim=-1)


@cache
def _steps(vocab_size: int, device: torch.device) -> torch.Tensor:
    """[V] what SplitMix64 has added to its seed when it makes the number of each token."""
    indices = torch.arange(1, vocab_size + 1, device=device)
    return indices.mul_(_signed(SPLITMIX64_STEP))


def _shifted(bits: torch.Tensor, places: int) -> torch.Tensor:
    """Shifted right as if unsigned: torch's own shift copies the sign."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(number: int) -> int:
    """64 bits as torch's int64 has them."""
    return number - (number >> 63 << 64)
