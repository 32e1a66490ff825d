"""GGUF files of the Llama family, read faster than transformers reads them.

Its reader walks the vocabulary twice, one small array a token, and builds the table of tensor
names anew for each of the model's modules: 14 s for SmolLM2-135M, against 1.3 here. A setting or
tensor that is not known here is named: what it changes would be missing in the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.gguf_rope import ROPE_TENSORS, rope_scaling
from forethought.engine.weights.lean_config import LeanConfig
from forethought.engine.weights.lean_tensors import listed

if TYPE_CHECKING:
    from transformers import LlamaConfig

_EMBEDDING = "token_embd.weight"
_NEEDED = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
_FREE = frozenset({"attention.head_count_kv", "attention.key_length", "rope.freq_base"})
_SAID_TWICE = ("attention.value_length", "rope.dimension_count")  # the size of a head again
_OF_NO_EFFECT = ("tensor_data_layout", "vocab_size")
"""Where its weights came from; and what the rows of the embedding tell, padding included."""
_NEUTRAL = {
    "attention.causal": True,
    "attention.sliding_window": 0,
    "expert_count": 0,
    "expert_used_count": 0,
    "pooling_type": 0,
}
"""Known at these values alone."""
_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_BIASED = {"attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o"}
_TENSOR_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")


@dataclass(frozen=True, slots=True)
class GGUFFamily:
    """How the files of an architecture differ from those of others."""

    rotates_pairs: bool = False  # see `Checkpoint`
    biased: frozenset[str] = frozenset()  # parts of a layer that must have a bias
    norms_heads: bool = False
    tensors: dict[str, str] = field(default_factory=lambda: _TENSORS)


FAMILIES = {
    "llama": GGUFFamily(rotates_pairs=True),
    "qwen2": GGUFFamily(biased=frozenset("qkv")),
    "qwen3": GGUFFamily(norms_heads=True, tensors=_TENSORS | _HEAD_NORMS),
}
"""By their architectures."""


def family_of(file: GGUFFile) -> GGUFFamily | None:
    """None for files that the other functions are not for."""
    return FAMILIES.get(_architecture(file))


def _architecture(file: GGUFFile) -> str:
    return str(file.metadata.get("general.architecture"))


def lean_config(file: GGUFFile) -> LeanConfig:
    """The model's configuration, for the lean decoder.

    Raises:
        ValueError: the file says something that is not known here, which is named.
    """
    settings, family = gguf_settings(file), FAMILIES[_architecture(file)]
    if settings["rope_parameters"]["rope_type"] != "default":
        config = LeanConfig.from_transformers(llama_config(file))
        return replace(config, biased=_biased(file), norms_heads=family.norms_heads)
    head_dim, num_layers = settings["head_dim"], settings["num_hidden_layers"]
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    return LeanConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=settings["hidden_size"],
        max_model_len=settings["max_position_embeddings"],
        num_layers=num_layers,
        num_heads=settings["num_attention_heads"],
        num_kv_heads=settings["num_key_value_heads"],
        head_dim=head_dim,
        intermediate_size=settings["intermediate_size"],
        rms_norm_eps=settings["rms_norm_eps"],
        ties_embeddings=settings["tie_word_embeddings"],
        biased=_biased(file),
        norms_heads=family.norms_heads,
        inv_freq=1.0 / settings["rope_parameters"]["rope_theta"] ** exponents,
        rope_scale=1.0,
        windows=[None] * num_layers,
    )


def llama_config(file: GGUFFile) -> LlamaConfig:
    """The model's sizes and positions, for transformers. Raises as `lean_config` does."""
    from transformers import LlamaConfig  # noqa: PLC0415

    return LlamaConfig(**gguf_settings(file))


def gguf_settings(file: GGUFFile) -> dict[str, Any]:
    """What the file says of the model, by transformers' names."""
    own, architecture = _known_settings(file), _architecture(file)
    settings = {name: own[key] for key, name in _NEEDED.items()}
    num_heads = settings["num_attention_heads"]
    head_dim = own.get("attention.key_length", settings["hidden_size"] // num_heads)
    for key in _SAID_TWICE:
        if own.get(key, head_dim) != head_dim:
            raise ValueError(f"{architecture}.{key} is {own[key]}, not {head_dim}")
    scaling = rope_scaling(file, architecture) or {"rope_type": "default"}
    theta = float(own.get("rope.freq_base", 10_000.0))
    return {
        **settings,
        "num_key_value_heads": own.get("attention.head_count_kv", num_heads),
        "head_dim": head_dim,
        "vocab_size": file.tensors[_EMBEDDING].shape[0],
        "rope_parameters": {"rope_theta": theta, **scaling},
        "attention_bias": bool(_biased(file)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }


def _known_settings(file: GGUFFile) -> dict[str, Any]:
    """Its settings by their keys, but for those of scaled positions.

    Raises:
        ValueError: one is missing or not known here, or a tensor is not.
    """
    if unknown := unknown_parts(file):
        raise ValueError(f"the file has what is not known here: {listed(unknown)}")
    own = _own_settings(file)
    missing = [f"{_architecture(file)}.{key}" for key in _NEEDED.keys() - own.keys()]
    missing += [] if _EMBEDDING in file.tensors else [_EMBEDDING]
    if missing:
        raise ValueError(f"the file lacks {listed(missing)}")
    return own


def unknown_parts(file: GGUFFile) -> Sequence[str]:
    """The names of its settings and tensors that the other functions do not know."""
    own = _own_settings(file)
    known = {*_NEEDED, *_FREE, *_SAID_TWICE, *_OF_NO_EFFECT}
    settings = [
        f"{_architecture(file)}.{key}"
        for key, value in own.items()
        if isinstance(value, list)  # of each layer
        or (key not in known and (key not in _NEUTRAL or value != _NEUTRAL[key]))
    ]
    num_layers, family = own.get("block_count", 0), FAMILIES[_architecture(file)]
    tensors = [
        name
        for name in file.tensors.keys() - ROPE_TENSORS
        if not _parameter_name(name, family) or _layer_of(name) >= num_layers
    ]
    return settings + tensors


def _own_settings(file: GGUFFile) -> dict[str, Any]:
    prefix = f"{_architecture(file)}."
    return {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix) and not key.startswith(f"{prefix}rope.scal")
    }


def _biased(file: GGUFFile) -> frozenset[str]:
    """The parts of a layer that have a bias in any: each that is missing elsewhere is named."""
    parts = {name.split(".")[-2] for name in file.tensors if name.endswith(".bias")}
    found = frozenset(letter for part, letter in _BIASED.items() if part in parts)
    return FAMILIES[_architecture(file)].biased | found


def _layer_of(name: str) -> int:
    match = _TENSOR_NAME.fullmatch(name)
    return -1 if match is None or match["layer"] is None else int(match["layer"])


def gguf_tensor_names(file: GGUFFile) -> dict[str, str]:
    """What transformers calls each of the file's tensors, but for those of positions."""
    family = FAMILIES[_architecture(file)]
    return {
        name: _parameter_name(name, family) for name in file.tensors if name not in ROPE_TENSORS
    }


def _parameter_name(name: str, family: GGUFFamily) -> str:
    """What transformers calls a tensor; empty if it is none of such a model."""
    match = _TENSOR_NAME.fullmatch(name)
    if match is None or match["part"] not in family.tensors:
        return ""
    if match["kind"] == "bias" and match["part"] not in _BIASED:
        return ""
    prefix = "" if match["layer"] is None else f"model.layers.{match['layer']}."
    return f"{prefix}{family.tensors[match['part']]}.{match['kind']}"
