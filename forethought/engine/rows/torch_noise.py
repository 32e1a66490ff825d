"""The noise of coupled sessions for whole rows, in torch's operations.

A function of a key and the token id, computed in whole numbers of 64 bits up to its logarithm, so
that every device and every tier comes to the same but for the last bit of a double.
"""

from collections.abc import Sequence
from functools import cache

import torch

from forethought.sampling.randomness import (
    EXPONENTIAL_SHIFT,
    EXPONENTIAL_UNIT,
    SPLITMIX64_LAST_SHIFT,
    SPLITMIX64_MIX,
    SPLITMIX64_STEP,
)


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
