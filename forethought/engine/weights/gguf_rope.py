"""How a GGUF file scales its positions, in the settings that transformers has for the same.

llama.cpp (`src/llama-model.cpp`) reads `ARCH.rope.scaling.*`, and tensors that divide the frequency
of each pair of numbers: `rope_freqs`, at all lengths, and `rope_factors_short` and `_long`, by the
length of the sequence. All of them are LongRoPE in transformers, the first with equal factors.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from forethought.engine.weights.gguf_file import GGUFFile

FREQS, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
ROPE_TENSORS = frozenset({FREQS, SHORT, LONG})
_KNOWN = frozenset(
    {
        "attn_factor",
        "factor",
        "finetuned",  # whether it was trained so
        "original_context_length",
        "type",
        "yarn_attn_factor",
        "yarn_beta_fast",
        "yarn_beta_slow",
    }
)
_NEUTRAL: Mapping[str, float] = {
    "yarn_ext_factor": 1.0,
    "yarn_log_multiplier": 0.0,
}
"""Known at these values alone."""


def rope_scaling(file: GGUFFile, architecture: str) -> Mapping[str, Any] | None:
    """`rope_scaling` of transformers; None without any.

    Raises:
        ValueError: it is scaled in a way that is not computed here, which is named.
    """
    prefix = f"{architecture}.rope.scaling."
    settings = {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
    }
    _refuse_unknown(settings, prefix)
    if settings.get("type") != "yarn" and settings.get("yarn_attn_factor", 1.0) != 1.0:
        raise ValueError(f"{prefix}yarn_attn_factor is said, and its type is not yarn")
    factor = float(settings.get("factor") or 0.0)
    factor = factor or float(file.metadata.get(f"{architecture}.rope.scale_linear") or 0.0) or 1.0
    trained = int(file.metadata[f"{architecture}.context_length"])
    original = int(settings.get("original_context_length") or trained)
    attention = float(settings.get("attn_factor") or 1.0)
    kind = settings.get("type", "linear")
    kind = "longrope" if ROPE_TENSORS & file.tensors.keys() else kind
    if kind == "longrope":
        short, long = _factors(file)
        # What scales all frequencies scales each.
        linear = factor if settings.get("type", "linear") == "linear" else 1.0
        if settings.get("type") == "yarn":
            raise ValueError(f"{prefix}type is yarn beside {_named(file)}, which is not computed")
        return {
            "rope_type": "longrope",
            "short_factor": [linear * each for each in short],
            "long_factor": [linear * each for each in long],
            "original_max_position_embeddings": trained if short == long else original,
            "attention_factor": attention,
            "factor": 1.0,
        }
    if kind == "none" or (kind == "linear" and factor == 1.0 and attention == 1.0):
        return None
    if kind == "linear" and attention == 1.0:
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        attention *= float(settings.get("yarn_attn_factor") or 1.0)
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": attention * (1.0 + 0.1 * math.log(max(factor, 1.0))),
            "beta_fast": float(settings.get("yarn_beta_fast") or 32.0),
            "beta_slow": float(settings.get("yarn_beta_slow") or 1.0),
        }
    raise ValueError(f"positions scaled as {prefix}* says are not computed here: {settings}")


def _refuse_unknown(settings: Mapping[str, Any], prefix: str) -> None:
    unknown = [
        prefix + name
        for name, value in settings.items()
        if name not in _KNOWN and (name not in _NEUTRAL or value != _NEUTRAL[name])
    ]
    if unknown:
        raise ValueError(f"positions are scaled by what is not known here: {', '.join(unknown)}")


def _factors(file: GGUFFile) -> tuple[Sequence[float], Sequence[float]]:
    """Of short and of long sequences, by which the frequencies are divided."""
    if FREQS in file.tensors and not {SHORT, LONG} & file.tensors.keys():
        factors = file.tensors[FREQS].dequantized().tolist()
        return factors, factors
    if {SHORT, LONG} <= file.tensors.keys() and FREQS not in file.tensors:
        short, long = (file.tensors[name].dequantized().tolist() for name in (SHORT, LONG))
        return short, long
    raise ValueError(f"of the tensors for positions there are only, or too many: {_named(file)}")


def _named(file: GGUFFile) -> str:
    return ", ".join(sorted(ROPE_TENSORS & file.tensors.keys()))
