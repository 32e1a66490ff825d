"""What the lean decoder has to know of a model besides its weights, wherever it is written down.

Only what the decoder is known to compute as transformers does is taken: the four families, and of
their settings those that it knows. Everything else is left to transformers' own code, whose import
alone takes seconds and 130 MB, and is put off until a configuration is one of its own; see
`plain_settings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch.nn import functional

from forethought.engine.model.positions import longest_sequence
from forethought.engine.weights.rope_frequencies import ROPE_TYPES, rope_frequencies

FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a position turns queries and keys."""

    inv_freq: torch.Tensor  # [head_dim / 2] float32, radians a position; 0 of what is not turned
    scale: float = 1.0  # length of a turned unit vector; 1 but for YaRN and LongRoPE

    @classmethod
    def plain(cls, theta: float, num_turned: int, head_dim: int) -> Self:
        """Of the first so many numbers of a head, none for layers without positions."""
        rope = {"rope_type": "default", "rope_theta": theta}
        inv_freq, scale = rope_frequencies(rope, num_turned, 0)
        return cls(padded(inv_freq, head_dim), scale)


def padded(inv_freq: torch.Tensor, head_dim: int) -> torch.Tensor:
    """[head_dim / 2]: zeros for the numbers that are not turned."""
    return functional.pad(inv_freq, (0, head_dim // 2 - len(inv_freq)))


@dataclass(frozen=True, slots=True)
class LayerAttention:
    """In what the attention of layers differs."""

    window: int | None = None  # how many of the latest tokens each sees, itself included
    rotation: int = 0  # which of the model's


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
    rotations: Sequence[Rotation]
    attentions: Sequence[LayerAttention]  # of each layer
    score_scale: float  # of queries times keys
    score_cap: float = 0.0  # scores become cap * tanh(score / cap), unless it is 0
    logit_cap: float = 0.0  # the same of logits
    num_turned: int | None = None  # numbers of a head, its first ones; None is all
    embedding_scale: float = 1.0
    norms_outputs: bool = False  # of attention and MLP, before they are added to the stream
    gates_with_gelu: bool = False  # by its tanh, instead of silu

    @classmethod
    def from_transformers(cls, config: Any) -> Self:
        """From a configuration that `is_lean` takes."""
        # First, since it completes what the longest sequence follows from.
        rotation = scaled_rotation(config, _head_dim(config))
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
            rotations=[rotation],
            attentions=[LayerAttention(window) for window in _windows(config)],
            score_scale=_head_dim(config) ** -0.5,
        )

    @property
    def is_plain(self) -> bool:
        """Whether it differs from a Llama in nothing but sizes, windows, biases and norms of
        heads."""
        return (
            len(self.rotations) == 1
            and self.num_turned is None
            and self.score_cap == self.logit_cap == 0.0
            and self.embedding_scale == 1.0
            and not self.norms_outputs
            and not self.gates_with_gelu
        )

    def pair_order(self) -> torch.Tensor:
        """[head_dim]: the numbers of a head, whose halves are turned together, with those two side
        by side."""
        turned = self.head_dim if self.num_turned is None else self.num_turned
        pairs = torch.arange(turned).view(2, -1).T.flatten()
        return torch.cat([pairs, torch.arange(turned, self.head_dim)])


def scaled_rotation(config: Any, head_dim: int) -> Rotation:
    """As transformers computes it for a configuration of a Llama.

    Raises:
        ValueError: its settings do not go together.
    """
    config.standardize_rope_params()
    rope = config.rope_parameters
    num_turned = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    try:
        inv_freq, scale = rope_frequencies(rope, num_turned, config.max_position_embeddings)
    except (KeyError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"its positions cannot be computed from its settings: {error!r}"
        ) from error
    return Rotation(padded(inv_freq, head_dim), scale)


def is_lean(config: Any) -> bool:
    """Whether the decoder computes what this configuration of transformers describes."""
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        config.model_type in FAMILIES
        and getattr(config, "quantization_config", None) is None
        and config.hidden_act == "silu"
        and getattr(config, "pretraining_tp", 1) in {None, 1}
        and rope.get("rope_type") in ROPE_TYPES
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
