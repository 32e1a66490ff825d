"""How long a sequence a model takes, which follows from how its positions are scaled.

As vLLM derives it: linear scaling and YaRN multiply the length of training, Llama 3's and Gemma 3's
settings tell the multiplied length already. Dynamic scaling and LongRoPE rotate all tokens by the
length of the whole sequence. Keys that are cached would have to be rotated again as it grows, and
sequences that share a pass would have to agree; so such a model serves the lengths at which it
rotates as it was first trained.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


def longest_sequence(config: Any) -> int | None:
    """Tokens, None if the configuration does not say.

    Args:
        config: of transformers, of a whole model.
    """
    text = config.get_text_config()
    stated = getattr(text, "max_position_embeddings", None)
    if type(stated) is not int or stated < 1:
        return None
    kinds = list(rope_kinds(text))
    if any(map(depends_on_length, kinds)):
        # Dynamic scaling begins at the length that is stated.
        longest = min(_first_trained(kind, stated) for kind in kinds if depends_on_length(kind))
        _log.warning("served_before_positions_are_rescaled", max_model_len=longest, stated=stated)
        return longest
    if "gemma3" in text.model_type:
        return stated
    return max((_scaled(kind, stated) for kind in kinds), default=stated)


def refuse_unknown_scaling(config: Any) -> None:
    """Raises ValueError for a kind of scaling that this transformers does not know, by its name,
    and for factors that are none."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS  # noqa: PLC0415

    text = config.get_text_config()
    known = {*ROPE_INIT_FUNCTIONS, "default", getattr(text, "default_rope_type", "default")}
    unknown = {str(kind["rope_type"]) for kind in rope_kinds(text)} - known
    if unknown:
        raise ValueError(f"positions are scaled in a way that is not known: {', '.join(unknown)}")
    for kind in rope_kinds(text):
        for name in ("factor", "short_factor", "long_factor"):
            if not all(map(_is_factor, _as_list(kind.get(name, 1.0)))):
                raise ValueError(f"positions are scaled by {name} = {kind[name]} in config.json")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_factor(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 < value < math.inf)


def rope_kinds(config: Any) -> Iterator[Mapping[str, Any]]:
    """How positions are scaled, for each kind of layer that does it in its own way."""
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else rope.values()
    return (kind for kind in kinds if isinstance(kind, Mapping) and "rope_type" in kind)


def depends_on_length(rope: Mapping[str, Any]) -> bool:
    """Whether a token is rotated by how long its sequence is."""
    kind = rope["rope_type"]
    if kind == "longrope":
        return bool(rope.get("long_factor") != rope.get("short_factor"))
    return "dynamic" in str(kind)


def _first_trained(rope: Mapping[str, Any], stated: int) -> int:
    if rope["rope_type"] == "longrope":
        return min(stated, int(rope.get("original_max_position_embeddings") or stated))
    return stated


def _scaled(rope: Mapping[str, Any], stated: int) -> int:
    kind, factor = rope["rope_type"], rope.get("factor")
    if factor is None or kind not in {"linear", "yarn"}:
        return stated
    trained = rope.get("original_max_position_embeddings") if kind == "yarn" else None
    return int((trained or stated) * factor)
