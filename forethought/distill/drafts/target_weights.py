"""The weights of a target that a draft begins with, in transformers' layout."""

from dataclasses import dataclass
from typing import Self

import torch

from forethought.engine.loading.loader import open_checkpoint
from forethought.engine.weights.checkpoint import Checkpoint
from forethought.engine.weights.lean_config import LeanConfig
from forethought.engine.weights.lean_tensors import EMBEDDING, HEAD
from forethought.models.files.reference import ModelFiles

LAYER_MATRICES = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
LAYER_NORMS = ("input_layernorm", "post_attention_layernorm")


@dataclass(frozen=True, slots=True)
class TargetWeights:
    """A model of the Llama family, layer by layer as it is asked for."""

    config: LeanConfig
    checkpoint: Checkpoint

    @classmethod
    def open(cls, files: ModelFiles) -> Self:
        """Raises ModelReferenceError: the model is of another family, or cannot be read."""
        return cls(*open_checkpoint(files))

    @property
    def rope_theta(self) -> float:
        """Base of the rotation's wavelengths, from the second of them: scaling of long contexts,
        which a draft goes without, leaves the short ones as they are."""
        inv_freq = self.config.rotations[0].inv_freq
        if len(inv_freq) < 2:
            return 10_000.0
        return float(round(float(inv_freq[1].double()) ** (-self.config.head_dim / 2)))

    def embedding(self) -> torch.Tensor:
        """[V, hidden] float32."""
        return self.checkpoint.dense(EMBEDDING).float()

    def head(self) -> torch.Tensor:
        """[V, hidden] float32, as the target multiplies with it."""
        if self.config.ties_embeddings:
            return self.embedding()
        return self.checkpoint.dense(HEAD).float()

    def final_norm(self) -> torch.Tensor:
        """[hidden] float32."""
        return self.checkpoint.dense("model.norm.weight").float()

    def layer(self, index: int) -> dict[str, torch.Tensor]:
        """The float32 weights of a layer by their names in it; those that a plain Llama has."""
        prefix = f"model.layers.{range(self.config.num_layers)[index]}."
        return {
            f"{name}.weight": self._in_halves(name, self.checkpoint.dense(f"{prefix}{name}.weight"))
            for name in (*LAYER_MATRICES, *LAYER_NORMS)
        }

    def _in_halves(self, name: str, rows: torch.Tensor) -> torch.Tensor:
        """The rows of q and k with the two that rotate together half a head apart."""
        if name.endswith((".q_proj", ".k_proj")) and self.checkpoint.rotates_pairs:
            pairs = rows.view(-1, self.config.head_dim // 2, 2, rows.shape[-1])
            rows = pairs.transpose(1, 2).reshape(rows.shape)
        return rows.float()
