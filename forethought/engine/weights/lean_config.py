"""What the lean decoder has to know of a model besides its weights, wherever it is written down.

Only what the decoder is known to compute as transformers does is taken: the four families, and of
their settings those that it knows. Everything else is left to transformers' own code, whose import
alone takes seconds and 130 MB, and is put off until a configuration is one of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from forethought.engine.model.positions import longest_sequence

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_ROPE_TYPES = frozenset({"default", "linear", "llama3", "longrope", "yarn"})


@dataclass(frozen=True, slots=True)
class LeanConfig:
    """The shape of a model of the Llama family."""

    vocab_size: int
    hidden_size: int
    max_model_len: int  # longest sequence it was made for, tokens; 0 if it does not say
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float
    ties_embeddings: bool  # the head is the embedding
    biased: frozenset[str]  # parts of a layer, such as "q" and "gate", whose products have a bias
    norms_heads: bool  # each head of q and k on its own, before it is rotated
    inv_freq: torch.Tensor  # [head_dim / 2] float32, radians a position
    rope_scale: float  # length of a rotated unit vector; 1 but for YaRN
    windows: Sequence[int | None]  # of each layer: the latest tokens it sees, itself included

    @classmethod
    def from_transformers(cls, config: Any) -> Self:
        """From a configuration that `is_lean` takes."""
        from transformers.models.llama.modeling_llama import (  # noqa: PLC0415
            LlamaRotaryEmbedding,
        )

        try:
            rope = LlamaRotaryEmbedding(config)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"its positions cannot be computed from its settings: {error!r}"
            ) from error
        return cls(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            max_model_len=longest_sequence(config) or 0,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            head_dim=_head_dim(config),
            intermediate_size=config.intermediate_size,
            rms_norm_eps=config.rms_norm_eps,
            ties_embeddings=config.tie_word_embeddings,
            biased=_biased(config),
            norms_heads=config.model_type == "qwen3",
            inv_freq=rope.inv_freq.float(),
            rope_scale=float(rope.attention_scaling),
            windows=_windows(config),
        )


def is_lean(config: Any) -> bool:
    """Whether the decoder computes what this configuration of transformers describes."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and getattr(config, "quantization_config", None) is None
        and config.hidden_act == "silu"
        and getattr(config, "pretraining_tp", 1) in {None, 1}
        and rope.get("rope_type") in _ROPE_TYPES
        and rope.get("partial_rotary_factor", 1) == 1
        and _head_dim(config) % 2 == 0
        and config.num_attention_heads % config.num_key_value_heads == 0
    )


def _windows(config: Any) -> list[int | None]:
    """As transformers gives each family its windows, whatever else its configuration says."""
    kinds = {
        "llama": (),
        "mistral": ("sliding_attention",) * config.num_hidden_layers,
    }.get(config.model_type, getattr(config, "layer_types", None) or ())
    kinds = kinds or ("full_attention",) * config.num_hidden_layers
    return [config.sliding_window if kind == "sliding_attention" else None for kind in kinds]


def _biased(config: Any) -> frozenset[str]:
    """As transformers gives each family its biases, likewise."""
    attention = "qkvo" if getattr(config, "attention_bias", False) else ""
    mlp = ("gate", "up", "down") if getattr(config, "mlp_bias", False) else ()
    parts = {
        "llama": (*attention, *mlp),
        "mistral": (),
        "qwen2": tuple("qkv"),
        "qwen3": tuple(attention),
    }
    return frozenset(parts[config.model_type])


def _head_dim(config: Any) -> int:
    return int(
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
