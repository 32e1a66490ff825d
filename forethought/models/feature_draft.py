"""What the config.json of a feature draft says; see `forethought/engine/lean/feature_draft.py`."""

import json
from dataclasses import dataclass
from typing import Any, Self

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input
from forethought.models.files.reference import ModelFiles

MODEL_TYPE = "forethought_feature_draft"

DEFAULT_MAX_LEN = 512
"""Context, tokens, where the configuration says nothing: about what drafts are trained on. The
target has seen the rest, and its hidden states tell of it."""


@dataclass(frozen=True, slots=True)
class FeatureDraftConfig:
    """The shape of a feature draft, and the target that it was trained on."""

    hidden_size: int  # of the draft and of the target's hidden states
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    vocab_size: int  # V, of the target
    draft_vocab_size: int  # R, tokens that it may guess
    tie_word_embeddings: bool  # the head is the first R rows of the embedding
    max_position_embeddings: int  # longest context, tokens
    target_name: str
    target_fingerprint: str
    vocabulary_fingerprint: str

    @classmethod
    def read(cls, files: ModelFiles) -> Self:
        """From the folder of a feature draft.

        Raises:
            ModelReferenceError: something is missing, or not what it should be.
        """
        try:
            config = json.loads(read_input(files.folder / "config.json"))
            target = config["target"]
            return cls(
                hidden_size=int(config["hidden_size"]),
                intermediate_size=int(config["intermediate_size"]),
                num_hidden_layers=int(config["num_hidden_layers"]),
                num_attention_heads=int(config["num_attention_heads"]),
                num_key_value_heads=int(config["num_key_value_heads"]),
                head_dim=int(config["head_dim"]),
                rms_norm_eps=float(config["rms_norm_eps"]),
                rope_theta=float(config["rope_theta"]),
                vocab_size=int(config["vocab_size"]),
                draft_vocab_size=int(config["draft_vocab_size"]),
                tie_word_embeddings=bool(config["tie_word_embeddings"]),
                max_position_embeddings=int(config.get("max_position_embeddings", DEFAULT_MAX_LEN)),
                target_name=str(target["name"]),
                target_fingerprint=str(target["model_fingerprint"]),
                vocabulary_fingerprint=str(target["vocabulary_fingerprint"]),
            )
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ModelReferenceError(
                f"{files.reference} is no feature draft: config.json: {error!r}"
            ) from error


def is_feature_draft(files: ModelFiles) -> bool:
    """Whether these are the files of a feature draft, as far as their configuration says."""
    try:
        config: Any = json.loads(read_input(files.folder / "config.json"))
    except (OSError, ValueError, RecursionError):
        return False
    return (
        files.gguf is None and isinstance(config, dict) and config.get("model_type") == MODEL_TYPE
    )
