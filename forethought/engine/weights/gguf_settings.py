"""The configuration of a model that a GGUF file describes, for the lean decoder.

Read faster than transformers reads it: its reader walks the vocabulary twice, one small array a
token, and builds the table of tensor names anew for each of the model's modules: 14 s for
SmolLM2-135M, against 1.3 here. A setting or tensor that is not known here is named: what it changes
would be missing in the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from forethought.engine.model.positions import longest_sequence
from forethought.engine.weights.gguf_families import (
    FAMILIES,
    GGUFFamily,
    architecture_of,
    biased_parts,
    unknown_tensors,
)
from forethought.engine.weights.gguf_file import GGUFFile
from forethought.engine.weights.gguf_rope import rope_scaling
from forethought.engine.weights.lean_config import (
    LayerAttention,
    LeanConfig,
    Rotation,
    scaled_rotation,
)
from forethought.engine.weights.lean_tensors import listed
from forethought.engine.weights.plain_settings import PlainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

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
_HEAD_SIZE, _TURNED = "attention.value_length", "rope.dimension_count"
_OF_NO_EFFECT = ("tensor_data_layout", "vocab_size")
"""Where its weights came from; and what the rows of the embedding tell, padding included."""
_NEUTRAL: Mapping[str, Any] = {
    "attention.causal": True,
    "attention.sliding_window": 0,
    "expert_count": 0,
    "expert_used_count": 0,
    "pooling_type": 0,
}
"""Known at these values alone."""
_LISTS = frozenset({"attention.sliding_window_pattern"})
"""Of what may differ from layer to layer."""
_GEMMA_SCORES = 256
"""What the scores of a Gemma are scaled by the root of, whatever its heads' size."""


def lean_config(file: GGUFFile) -> LeanConfig:
    """The model's configuration.

    Raises:
        ValueError: the file says something that is not known here, which is named.
    """
    settings, own = gguf_settings(file), _own_settings(file)
    family = FAMILIES[architecture_of(file)]
    hidden_size, head_dim = settings["hidden_size"], settings["head_dim"]
    rotation, max_model_len = _rotation(settings, family)
    score_cap, logit_cap = _caps(own, family)
    return LeanConfig(
        vocab_size=settings["vocab_size"],
        hidden_size=hidden_size,
        max_model_len=max_model_len,
        num_layers=settings["num_hidden_layers"],
        num_heads=settings["num_attention_heads"],
        num_kv_heads=settings["num_key_value_heads"],
        head_dim=head_dim,
        intermediate_size=settings["intermediate_size"],
        rms_norm_eps=settings["rms_norm_eps"],
        ties_embeddings=settings["tie_word_embeddings"],
        biased=biased_parts(file),
        norms_heads=family.norms_heads,
        rotations=[rotation, *_other_rotations(own, family, head_dim)],
        num_turned=None if own.get(_TURNED, head_dim) == head_dim else own[_TURNED],
        attentions=_attentions(own, family),
        score_scale=_score_size(settings, family) ** -0.5,
        score_cap=score_cap,
        logit_cap=logit_cap,
        embedding_scale=hidden_size**0.5 if family.is_gemma else 1.0,
        norms_outputs=family.is_gemma,
        gates_with_gelu=family.is_gemma,
    )


def _rotation(settings: Mapping[str, Any], family: GGUFFamily) -> tuple[Rotation, int]:
    """And how long a sequence may be."""
    longest = settings["max_position_embeddings"]
    config = PlainSettings(model_type="llama", **settings)
    rotation = scaled_rotation(config, settings["head_dim"])
    if family.windowed_theta:  # what is scaled in some layers does not make the others see farther
        return rotation, longest
    return rotation, longest_sequence(config) or longest


def _other_rotations(
    own: Mapping[str, Any], family: GGUFFamily, head_dim: int
) -> Sequence[Rotation]:
    if family.unturned_every:
        return [Rotation.plain(1.0, 0, head_dim)]
    if family.windowed_theta:
        theta = float(own.get("rope.freq_base_swa", family.windowed_theta))
        return [Rotation.plain(theta, head_dim, head_dim)]
    return []


def _attentions(own: Mapping[str, Any], family: GGUFFamily) -> Sequence[LayerAttention]:
    numbers = range(1, own["block_count"] + 1)
    if family.unturned_every:
        return [LayerAttention(rotation=int(n % family.unturned_every == 0)) for n in numbers]
    window = own.get("attention.sliding_window", family.window) if family.windowed else 0
    pattern = own.get("attention.sliding_window_pattern", family.whole_every)
    if not isinstance(pattern, list):
        pattern = [pattern == 0 or n % pattern > 0 for n in numbers]
    if len(pattern) != len(numbers):
        raise ValueError(f"the pattern of windows is of {len(pattern)} layers, not {len(numbers)}")
    in_windows = int(family.windowed_theta > 0)
    return [
        LayerAttention(window or None, in_windows) if is_windowed else LayerAttention()
        for is_windowed in pattern
    ]


def _score_size(settings: Mapping[str, Any], family: GGUFFamily) -> int:
    """What the scores are divided by the root of."""
    if not family.is_gemma:
        return int(settings["head_dim"])
    if settings["num_hidden_layers"] == family.layers_of_27b:
        return int(settings["hidden_size"] // settings["num_attention_heads"])
    return _GEMMA_SCORES


def _caps(own: Mapping[str, Any], family: GGUFFamily) -> tuple[float, float]:
    """Of scores and of logits, 0 for none."""
    scores, logits = family.caps or (0.0, 0.0)
    return (
        float(own.get("attn_logit_softcapping", scores)),
        float(own.get("final_logit_softcapping", logits)),
    )


def llama_config(file: GGUFFile) -> PreTrainedConfig:
    """The configuration of a Llama or SmolLM3, for transformers. Raises as `lean_config` does."""
    from transformers import CONFIG_MAPPING  # noqa: PLC0415

    config: PreTrainedConfig = CONFIG_MAPPING[architecture_of(file)](**gguf_settings(file))
    return config


def gguf_settings(file: GGUFFile) -> dict[str, Any]:
    """What the file says of the model, by transformers' names. Raises as `lean_config` does."""
    own, architecture = _known_settings(file), architecture_of(file)
    settings = {name: own[key] for key, name in _NEEDED.items()}
    num_heads = settings["num_attention_heads"]
    head_dim = own.get("attention.key_length", settings["hidden_size"] // num_heads)
    turned = own.get(_TURNED, head_dim)
    may_turn_parts = FAMILIES[architecture].turns_parts and turned in range(2, head_dim + 1, 2)
    for key in (_HEAD_SIZE, *([] if may_turn_parts else [_TURNED])):
        if own.get(key, head_dim) != head_dim:
            raise ValueError(f"{architecture}.{key} is {own[key]}, not {head_dim}")
    num_kv_heads = own.get("attention.head_count_kv", num_heads)
    if not num_kv_heads or num_heads % num_kv_heads or head_dim < 2 or head_dim % 2:
        raise ValueError(
            f"{num_heads} heads of {head_dim} numbers share {num_kv_heads} keys "
            f"({architecture}.attention.head_count, key_length, head_count_kv)"
        )
    rope = {
        "rope_theta": float(own.get("rope.freq_base", 10_000.0)),
        **(rope_scaling(file, architecture) or {"rope_type": "default"}),
        **({} if turned == head_dim else {"partial_rotary_factor": turned / head_dim}),
    }
    return {
        **settings,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "vocab_size": file.tensors[_EMBEDDING].shape[0],
        "rope_parameters": rope,
        "attention_bias": bool(biased_parts(file)),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "pad_token_id": None,
    }


def _known_settings(file: GGUFFile) -> dict[str, Any]:
    """Its settings by their keys, but for those of scaled positions.

    Raises:
        ValueError: one is missing or not known here, or a tensor is not.
    """
    if unknown := unknown_parts(file):
        raise ValueError(f"the file has what is not known here: {listed(unknown)}")
    own = _own_settings(file)
    missing = [f"{architecture_of(file)}.{key}" for key in _NEEDED.keys() - own.keys()]
    missing += [] if _EMBEDDING in file.tensors else [_EMBEDDING]
    if missing:
        raise ValueError(f"the file lacks {listed(missing)}")
    return own


def unknown_parts(file: GGUFFile) -> Sequence[str]:
    """The names of its settings and tensors that the other functions do not know."""
    own, more = _own_settings(file), FAMILIES[architecture_of(file)].more_settings
    known = {*_NEEDED, *_FREE, _HEAD_SIZE, _TURNED, *_OF_NO_EFFECT, *more}
    settings = [
        f"{architecture_of(file)}.{key}"
        for key, value in own.items()
        if (isinstance(value, list) and key not in _LISTS & more)
        or (key not in known and (key not in _NEUTRAL or value != _NEUTRAL[key]))
    ]
    return settings + unknown_tensors(file, own.get("block_count", 0))


def _own_settings(file: GGUFFile) -> dict[str, Any]:
    prefix = f"{architecture_of(file)}."
    return {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix) and not key.startswith(f"{prefix}rope.scal")
    }
