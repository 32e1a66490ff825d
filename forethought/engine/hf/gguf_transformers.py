"""GGUF files of other families than Llama, by transformers' tables of names.

transformers reads of a file what its tables name, and leaves out the rest without a word: windows,
scaled positions, softcaps, sizes of experts. Here the rest is taken over where transformers' model
has a setting for it, compared where the file says again what follows from others, and refused by
name where it is neither.
"""

from collections.abc import Mapping
from typing import Any

import torch
from gguf import MODEL_ARCH_NAMES
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
)
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.modeling_gguf_pytorch_utils import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    get_gguf_hf_weights_map,
    load_gguf_checkpoint,
)

from forethought.engine.hf.transformers_model import refuse_other_state
from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.gguf_rope import ROPE_TENSORS, rope_scaling
from forethought.engine.weights.lean_tensors import listed
from forethought.models.files.reference import ModelFiles

_NAMES = {"gpt-oss": "gpt_oss", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe"}
"""What transformers' tables call an architecture, where that is another name."""
_TIED = frozenset({"bloom", "falcon"})
_TRAINED = "original_max_position_embeddings"
_TAKEN_OVER = {
    "attention.key_length": "head_dim",
    "attention.layer_norm_epsilon": "norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "expert_count": "num_experts",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
    "expert_used_count": "num_experts_per_tok",
    "expert_weights_norm": "norm_topk_prob",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
    "vocab_size": "vocab_size",
}
"""Settings that transformers has, by their keys in files."""
_NEUTRAL: Mapping[str, Any] = {
    "attention.causal": True,
    "expert_gating_func": 1,  # softmax
    "expert_group_count": 0,
    "expert_weights_scale": 1.0,
    "leading_dense_block_count": 0,
    "logit_scale": 1.0,
    "pooling_type": 0,
}
"""Known at these values alone."""
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""By which llama.cpp, too, knows the sizes whose scores are scaled in another way."""


def gguf_config(files: ModelFiles, file: GGUFFile) -> PreTrainedConfig:
    """The model's configuration.

    Raises:
        ValueError: the file says something that is not known here, which is named.
    """
    architecture = str(file.metadata.get("general.architecture"))
    name = _NAMES.get(architecture, architecture)
    if name not in GGUF_CONFIG_MAPPING or architecture not in MODEL_ARCH_NAMES.values():
        raise ValueError(f"GGUF files of the architecture {architecture!r} are not known here")
    assert files.gguf is not None
    read: dict[str, Any] = dict(load_gguf_checkpoint(str(files.gguf))["config"])
    read["tie_word_embeddings"] = "output.weight" not in file.tensors or architecture in _TIED
    read.setdefault("pad_token_id", None)  # not one of another model's vocabulary
    kind = CONFIG_MAPPING[read["model_type"]]
    refuse_other_state(MODEL_FOR_CAUSAL_LM_MAPPING.get(kind, object), kind())
    read.pop("rope_scaling", None)
    if scaling := rope_scaling(file, architecture):
        read["rope_scaling"] = dict(scaling)
        if hasattr(kind, _TRAINED) and _TRAINED in scaling:  # which comes before the scaling's
            read[_TRAINED] = scaling[_TRAINED]
    by_table = {key for key, attribute in GGUF_CONFIG_MAPPING[name].items() if attribute}
    unread = _unread(file, architecture, by_table)
    if read.get("num_hidden_layers", 0) == _LAYERS_OF_27B.get(architecture):
        read["query_pre_attn_scalar"] = read["hidden_size"] // read["num_attention_heads"]
    if "n_ctx" in read:
        read["n_positions"] = read["n_ctx"]
    for key in _TAKEN_OVER.keys() & unread.keys():
        read[_TAKEN_OVER[key]] = unread[key] or None
    rotated = unread.get("rope.dimension_count")
    if rotated and "partial_rotary_factor" in (getattr(kind(), "rope_parameters", None) or {}):
        read["partial_rotary_factor"] = rotated / _head_dim(kind.from_dict(read))
    config: PreTrainedConfig = kind.from_dict(read)
    _check_taken_over(config, unread, architecture)
    return config


def _unread(file: GGUFFile, architecture: str, by_table: set[str]) -> dict[str, Any]:
    """What the file says of the model besides what transformers' table names."""
    prefix = f"{architecture}."
    return {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
        and key.removeprefix(prefix) not in by_table
        and not key.startswith(f"{prefix}rope.scal")
    }


def _check_taken_over(config: Any, unread: Mapping[str, Any], architecture: str) -> None:
    """Raises ValueError, with their names, if some of it does not show in the configuration."""
    implied = {**_implied(config), **_NEUTRAL}
    lost = [
        f"{architecture}.{key} = {value}"
        for key, value in unread.items()
        if key not in implied or not _is_same(value, implied[key])
    ]
    if lost:
        raise ValueError(f"the file says what is not known here: {listed(lost)}")


def _implied(config: Any) -> dict[str, Any]:
    """What a file of this configuration may say besides what transformers' table names."""
    head_dim = _head_dim(config)
    rope: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    whole = rope.get("full_attention", rope)
    kinds = getattr(config, "layer_types", None) or ()
    taken_over = {
        key: getattr(config, name)
        for key, name in _TAKEN_OVER.items()
        if hasattr(type(config), name)
    }
    return {
        **taken_over,
        "attention.key_length": head_dim,
        "attention.value_length": head_dim,
        "attention.sliding_window_pattern": [kind == "sliding_attention" for kind in kinds],
        "rope.dimension_count": int(head_dim * whole.get("partial_rotary_factor", 1.0)),
        "rope.freq_base": whole.get("rope_theta"),
        "rope.freq_base_swa": rope.get("sliding_attention", whole).get("rope_theta"),
        "use_parallel_residual": getattr(config, "use_parallel_residual", None),
    }


def _head_dim(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _is_same(said: Any, implied: Any) -> bool:
    if isinstance(implied, list):  # a pattern of layers, or after how many it begins anew
        layers = range(1, len(implied) + 1)
        windowed = said if isinstance(said, list) else [each % said > 0 for each in layers]
        return [bool(each) for each in windowed] == implied
    if isinstance(implied, bool):
        return bool(said == implied)
    return bool(said == implied) or (not said and not implied) or (said == 0 and implied == 1.0)


def gguf_weights(
    file: GGUFFile, config: PreTrainedConfig, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """The dequantised weights under transformers' names.

    Raises:
        ValueError: a tensor has no place in such a model.
    """
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    architecture = str(file.metadata["general.architecture"])
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    names = get_gguf_hf_weights_map(empty, processor)
    weights: dict[str, torch.Tensor] = {}
    unread = []
    for name, tensor in file.tensors.items():
        if name in ROPE_TENSORS:
            continue
        processed = processor.process(
            weights=tensor.dequantized(),
            name=name,
            tensor_key_mapping=names,
            parsed_parameters={"tensors": weights},
        )
        if processed.name in names:
            values = torch.from_numpy(processed.weights.copy())
            weights[names[processed.name]] = values.to(dtype)
        elif processed.name is not None:  # None: it is among the weights already
            unread.append(name)
    if unread:
        raise ValueError(f"the file has tensors that are not known here: {listed(unread)}")
    return {name: weight.to(dtype) for name, weight in weights.items()}
