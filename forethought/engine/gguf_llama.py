"""Llama-family GGUF files, read faster than transformers reads them.

Its reader walks the vocabulary twice, one small array a token, and builds the table of tensor
names anew for each of the model's modules: 14 s for SmolLM2-135M, against 1.3 here. Only files
that hold an ordinary Llama and nothing else are taken; a single setting or tensor that is not
known here leaves the file to transformers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from forethought.engine.gguf_file import GGUFFile
from forethought.engine.lean_config import LeanConfig

if TYPE_CHECKING:
    from transformers import LlamaConfig

_SETTINGS = {
    "llama.block_count": "num_hidden_layers",
    "llama.context_length": "max_position_embeddings",
    "llama.embedding_length": "hidden_size",
    "llama.feed_forward_length": "intermediate_size",
    "llama.attention.head_count": "num_attention_heads",
    "llama.attention.head_count_kv": "num_key_value_heads",
    "llama.attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "llama.vocab_size": "vocab_size",
    "llama.rope.dimension_count": "head_dim",
    "llama.rope.freq_base": "rope_theta",
}
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
_TENSOR_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.weight")


def is_ordinary_llama(file: GGUFFile) -> bool:
    """Whether `llama_config` and `llama_weights` cover all that the file says."""
    settings = {key for key in file.metadata if key.startswith("llama.")}
    return (
        file.metadata.get("general.architecture") == "llama"
        and file.metadata.get("general.name") != "mistral"  # transformers adds a sliding window
        and settings == _SETTINGS.keys()
        and all(_parameter_name(name) for name in file.tensors)
    )


def lean_config(file: GGUFFile) -> LeanConfig:
    """The model's configuration, for the lean decoder."""
    settings = _settings(file)
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
        biased=frozenset(),
        norms_heads=False,
        inv_freq=1.0 / settings["rope_theta"] ** exponents,
        rope_scale=1.0,
        windows=[None] * num_layers,
    )


def llama_config(file: GGUFFile) -> LlamaConfig:
    """The model's configuration, for transformers."""
    from transformers import LlamaConfig  # noqa: PLC0415

    settings = _settings(file)
    rope_parameters = {"rope_type": "default", "rope_theta": settings.pop("rope_theta")}
    return LlamaConfig(**settings, rope_parameters=rope_parameters)


def _settings(file: GGUFFile) -> dict[str, Any]:
    """What the file says of the model, by transformers' names."""
    settings = {name: file.metadata[key] for key, name in _SETTINGS.items()}
    return {**settings, "tie_word_embeddings": "output.weight" not in file.tensors}


def llama_weights(file: GGUFFile, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The dequantised weights under transformers' names."""
    num_heads = {
        "attn_q": file.metadata["llama.attention.head_count"],
        "attn_k": file.metadata["llama.attention.head_count_kv"],
    }
    weights = {}
    for name, tensor in file.tensors.items():
        part = name.split(".")[-2]
        weight = torch.from_numpy(tensor.dequantized()).to(dtype)
        if part in num_heads:
            weight = _halves(weight, num_heads[part])
        weights[_parameter_name(name)] = weight
    return weights


def llama_tensor_names(file: GGUFFile) -> dict[str, str]:
    """What transformers calls each of the file's tensors."""
    return {name: _parameter_name(name) for name in file.tensors}


def _parameter_name(name: str) -> str:
    """What transformers calls a tensor; empty if it is not one of a Llama."""
    match = _TENSOR_NAME.fullmatch(name)
    if match is None or match["part"] not in _TENSORS:
        return ""
    prefix = "" if match["layer"] is None else f"model.layers.{match['layer']}."
    return f"{prefix}{_TENSORS[match['part']]}.weight"


def _halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Rows of each head reordered: ggml rotates neighbouring pairs, transformers the two halves.

    [heads * size, hidden] -> the same shape; rows 0, 2, 4, ... of a head, then rows 1, 3, 5, ...
    """
    by_pair = weight.view(num_heads, -1, 2, weight.shape[-1])  # [heads, size / 2, 2, hidden]
    return by_pair.transpose(1, 2).reshape(weight.shape)
