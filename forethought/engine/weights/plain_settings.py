"""The configuration of a model of the Llama family, read without transformers.

Importing transformers takes as much processor time as everything else that a tier does before it
is ready. A config.json that says all that matters, and all of it as usual, is read here and gives
what transformers reads from it. Any other one, a mistake or a setting of older files included, is
left to transformers, which knows what is meant or what is wrong.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch

from forethought.engine.weights.lean_config import FAMILIES
from forethought.engine.weights.rope_frequencies import ROPE_TYPES
from forethought.models.files.model_kind import read_config

_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
)
_SWITCHES = ("tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window")
"""Off where nothing is said."""
_FULL, _SLIDING = "full_attention", "sliding_attention"
_TRAINED_SHORTER = ("llama3", "longrope", "yarn")
_LISTS_OF_ROPE = ("short_factor", "long_factor")
_NUMBERS_OF_ROPE = (
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
)
_NEEDED_OF_ROPE: Mapping[str, Sequence[str]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "longrope": (*_LISTS_OF_ROPE, "original_max_position_embeddings"),
    "yarn": ("factor", "original_max_position_embeddings"),
}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class PlainSettings(SimpleNamespace):
    """The attributes of transformers' configuration that `LeanConfig` is made from."""

    def get_text_config(self) -> Self:
        """Itself: there is nothing but text."""
        return self

    def standardize_rope_params(self) -> None:
        """They are complete."""


def read_plain_settings(folder: Path) -> PlainSettings | None:
    """From config.json; None if that is to be left to transformers.

    Raises:
        ModelReferenceError: config.json is no JSON object.
    """
    return plain_settings(read_config(folder))


def plain_settings(stored: Mapping[str, Any]) -> PlainSettings | None:
    """From settings by transformers' names; None as above."""
    if stored.get("model_type") not in list(FAMILIES):
        return None
    sizes = {name: stored.get(name) for name in _SIZES}
    switches = {name: stored.get(name, False) for name in _SWITCHES}
    head_dim, rope, windows = _head_dim(stored), _rope(stored), _windows(stored)
    dtype_name = stored.get("dtype") or stored.get("torch_dtype")
    are_usual = (
        all(type(size) is int and size > 0 for size in sizes.values())
        and all(type(switch) is bool for switch in switches.values())
        and type(stored.get("rms_norm_eps")) is float
        and type(stored.get("hidden_act")) is str
        and stored.get("quantization_config") is None
        and stored.get("pretraining_tp", 1) in (None, 1)
        and (dtype_name is None or dtype_name in list(_DTYPES))
    )
    if not are_usual or head_dim is None or rope is None or windows is None:
        return None
    return PlainSettings(
        model_type=stored["model_type"],
        head_dim=head_dim,
        rope_parameters=rope,
        hidden_act=stored["hidden_act"],
        rms_norm_eps=stored["rms_norm_eps"],
        dtype=_DTYPES.get(str(dtype_name)),
        **sizes,
        **switches,
        **windows,
    )


def _head_dim(stored: Mapping[str, Any]) -> int | None:
    hidden, heads = stored.get("hidden_size"), stored.get("num_attention_heads")
    if type(hidden) is not int or type(heads) is not int or heads < 1 or hidden % heads:
        return None
    stated = stored.get("head_dim")
    if stated is None and stored["model_type"] != "qwen3":
        return hidden // heads
    return stated if type(stated) is int and stated > 0 else None


def _windows(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What layers see of their context, by transformers' names."""
    family, kinds, window = (stored.get(n) for n in ("model_type", "layer_types", "sliding_window"))
    if family in {"llama", "mistral"}:
        is_usual = kinds is None and (family == "llama" or "sliding_window" in stored)
    else:
        window = window if stored.get("use_sliding_window") else None
        is_usual = window is None if kinds is None else _are_kinds(kinds, stored, window)
    is_usual = is_usual and (window is None or (type(window) is int and window > 0))
    return {"layer_types": kinds, "sliding_window": window} if is_usual else None


def _are_kinds(kinds: Any, stored: Mapping[str, Any], window: Any) -> bool:
    known = [_FULL] if window is None else [_FULL, _SLIDING]
    is_list = isinstance(kinds, list) and len(kinds) == stored.get("num_hidden_layers")
    return is_list and all(kind in known for kind in kinds)


def _rope(stored: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """As transformers completes it, whether in its own form or in that of older files."""
    said = stored.get("rope_scaling") or stored.get("rope_parameters") or {}
    if not isinstance(said, dict) or "partial_rotary_factor" in {*stored, *said}:
        return None
    if any(isinstance(each, dict) for each in said.values()):  # one for each kind of layer
        return None
    rope = {"rope_theta": stored.get("rope_theta", 10_000.0), **said}
    kind = rope.setdefault("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in ROPE_TYPES:
        return None
    if kind in _TRAINED_SHORTER:
        name = "original_max_position_embeddings"
        rope[name] = stored.get(name, rope.get(name, stored.get("max_position_embeddings")))
    return rope if _is_complete(rope) else None


def _is_complete(rope: Mapping[str, Any]) -> bool:
    needed = {"rope_theta", *_NEEDED_OF_ROPE[rope["rope_type"]]}
    lists = [rope[name] for name in _LISTS_OF_ROPE if name in rope]
    names = {*needed, *_NUMBERS_OF_ROPE} - {*_LISTS_OF_ROPE}
    numbers = [rope[name] for name in names if rope.get(name) is not None]
    return (
        all(rope.get(name) is not None for name in needed)
        and all(map(_is_positive, numbers))
        and all(isinstance(each, list) and all(map(_is_positive, each)) for each in lists)
        and type(rope.get("truncate", True)) is bool
    )


def _is_positive(number: Any) -> bool:
    return type(number) in {int, float} and 0 < number < math.inf
