"""How fast the numbers of a head rotate, bit for bit as transformers computes it.

Its own code (`modeling_rope_utils`) takes seconds to import. Linear scaling (Chen et al., arXiv
2306.15595), YaRN (Peng et al., arXiv 2309.00071), LongRoPE (Ding et al., arXiv 2402.13753), and
that of Llama 3.1, each with the settings that transformers has for it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

Rope = Mapping[str, Any]
"""Settings of transformers: `rope_parameters`, complete with `original_max_position_embeddings`."""
Frequencies = tuple[torch.Tensor, float]
"""[num_turned / 2] float32, radians a position; and the length of a rotated unit vector."""


def rope_frequencies(rope: Rope, num_turned: int, max_position_embeddings: int) -> Frequencies:
    """Those of a kind in `ROPE_TYPES`.

    Args:
        rope: the settings.
        num_turned: how many numbers of a head rotate.
        max_position_embeddings: longest sequence, tokens.

    Raises:
        KeyError, TypeError, RuntimeError: settings are missing, or of another type or length.
    """
    return ROPE_TYPES[rope["rope_type"]](rope, num_turned, max_position_embeddings)


def _periods(rope: Rope, num_turned: int) -> torch.Tensor:
    """Over 2 pi, without scaling: [num_turned / 2]."""
    periods: torch.Tensor = rope["rope_theta"] ** (
        torch.arange(0, num_turned, 2).float() / num_turned
    )
    return periods


def _default(rope: Rope, num_turned: int, _: int) -> Frequencies:
    return 1.0 / _periods(rope, num_turned), 1.0


def _linear(rope: Rope, num_turned: int, _: int) -> Frequencies:
    return 1.0 / _periods(rope, num_turned) / rope["factor"], 1.0


def _llama3(rope: Rope, num_turned: int, _: int) -> Frequencies:
    """Long waves are stretched, short ones are not, and those between by a part."""
    plain, factor = 1.0 / _periods(rope, num_turned), rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    trained = rope["original_max_position_embeddings"]
    lengths = 2 * math.pi / plain
    smooth = (trained / lengths - low) / (high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    is_long, is_short = lengths > trained / low, lengths < trained / high
    scaled = torch.where(is_long, plain / factor, plain)
    return torch.where(~is_long & ~is_short, between, scaled), 1.0


def _longrope(rope: Rope, num_turned: int, max_position_embeddings: int) -> Frequencies:
    """Those of sequences no longer than in the first training."""
    trained, length = rope["original_max_position_embeddings"], rope.get("attention_factor")
    factor = _factor(rope.get("factor"), max_position_embeddings, trained)
    if length is None:
        length = math.sqrt(1 + math.log(factor) / math.log(trained)) if factor > 1 else 1.0
    factors = torch.tensor(rope["short_factor"], dtype=torch.float32)
    return 1.0 / (factors * _periods(rope, num_turned)), float(length)


def _yarn(rope: Rope, num_turned: int, max_position_embeddings: int) -> Frequencies:
    trained = rope["original_max_position_embeddings"]
    factor = _factor(rope["factor"], max_position_embeddings, trained)
    periods = _periods(rope, num_turned)
    first, last = _yarn_ramp(rope, num_turned, trained)
    ramp = ((torch.arange(num_turned // 2).float() - first) / (last - first)).clamp(0, 1)
    kept = 1 - ramp
    scaled = 1.0 / (factor * periods) * (1 - kept) + 1.0 / periods * kept
    return scaled, _yarn_length(rope, factor)


def _yarn_ramp(rope: Rope, num_turned: int, trained: int) -> tuple[float, float]:
    """From which pair to which frequencies go over from unscaled to scaled."""
    base = rope["rope_theta"]

    def pair_of(num_rotations: float) -> float:
        wave = math.log(trained / (num_rotations * 2 * math.pi))
        return (num_turned * wave) / (2 * math.log(base))

    first = pair_of(rope.get("beta_fast") or 32)
    last = pair_of(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, num_turned - 1)
    return first, last + 0.001 if first == last else last


def _yarn_length(rope: Rope, factor: float) -> float:
    def length(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    if (stated := rope.get("attention_factor")) is not None:
        return float(stated)
    scale, scale_all = rope.get("mscale"), rope.get("mscale_all_dim")
    return length(scale) / length(scale_all) if scale and scale_all else length(1)


def _factor(stated: float | None, max_position_embeddings: int, trained: int) -> float:
    return max_position_embeddings / trained if stated is None else stated


ROPE_TYPES: Mapping[str, Callable[[Rope, int, int], Frequencies]] = {
    "default": _default,
    "linear": _linear,
    "llama3": _llama3,
    "longrope": _longrope,
    "yarn": _yarn,
}
"""That do not depend on how long a sequence is, or are served where they do not."""
