"""A feature draft: one decoder layer that guesses from the target's own hidden states.

    x_i    = fc(norm(embed(t_i)), norm(f_{i-1}))     f: the target's final hidden states
    fhat_i = norm(layers(x)_i)                       the draft's guess of f_i
    logits = head fhat_i                             over a part of the vocabulary

EAGLE (Li et al., arXiv 2401.15077). While it drafts, fhat takes the place of the hidden states that
the target has not computed yet. The layers are those of the lean decoder. Of the product with `fc`
the half that sees only the token is looked up: it is computed once for each, when the draft is
loaded.

Tokens that it never guesses share one row of the embedding as input.

The folder is that of any model: config.json and *.safetensors, with the names of transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from forethought.engine.lean.lean_builder import FORMATS, Parts, choose_backend
from forethought.engine.lean.lean_decoder import (
    LayerSteps,
    LeanBackend,
    LeanDecoder,
    LeanWeights,
    RMSNorm,
)
from forethought.engine.lean.torch_steps import rms_norm
from forethought.engine.linear.linear import Linear
from forethought.engine.model.packed import PackedPass
from forethought.engine.weights.lean_config import LayerAttention, LeanConfig, Rotation
from forethought.engine.weights.lean_tensors import HEAD_ROW_IDS, check_tensors, layer_tensors
from forethought.engine.weights.stored_checkpoints import SafetensorsCheckpoint, TensorCheckpoint
from forethought.models.feature_draft import FeatureDraftConfig
from forethought.models.files.reference import ModelFiles

DEFAULT_FORMAT = "int4"
"""Number format where none is asked for: a draft is as good as it is fast."""
_ROWS_TOGETHER = 16
"""What the kernels of 4 bits take at a time: the head's rows are a multiple of it."""


@dataclass(frozen=True, slots=True)
class FeatureParts:
    """What a feature draft has besides its layers and head."""

    config: FeatureDraftConfig
    token_ids: npt.NDArray[np.int64]  # [R] ascending: the target's ids of the tokens it may guess
    rows: npt.NDArray[np.int64]  # [V]: the row of each token, R of all others
    feature_norm: RMSNorm
    fc: Linear  # hidden -> hidden: the half that sees the hidden state; the embedding has the other


class FeatureDecoder(LeanDecoder):
    """`CausalModel` whose tokens come with the hidden states of the positions before them.

    It scores R tokens, those of `token_ids` in that order, and some rows of padding behind them;
    `vocab_size` is the target's all the same, since these are the tokens it takes in. What
    `forward_with_states` gives out is fhat. A pass whose parts have no `inputs` gets zeros, for
    measuring what passes take.
    """

    def __init__(
        self,
        shape: LeanConfig,
        weights: LeanWeights,
        features: FeatureParts,
        dtype_name: str,
        backend: LeanBackend,
    ) -> None:
        super().__init__(shape, weights, dtype_name, backend)
        self.config = features.config
        self.num_guessable = features.config.draft_vocab_size
        """R."""
        self.token_ids = features.token_ids
        """[R]: what the target calls them."""
        self.rows = features.rows
        """[V]: which of the R rows each of the target's tokens has; R of all others."""
        self._features = features

    def _inputs(
        self, packed: PackedPass, steps: LayerSteps
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        norm, fc = self._features.feature_norm, self._features.fc
        x = self.weights.embedding(packed.token_ids)  # [T, hidden]
        states = torch.zeros_like(x) if packed.inputs is None else packed.inputs.float()
        return x, fc(steps.add_and_norm(states, None, norm, fc.dtype))


def load_feature_draft(
    files: ModelFiles, number_format: str = DEFAULT_FORMAT, max_model_len: int = 0
) -> FeatureDecoder:
    """Reads and lays out all weights.

    Args:
        files: of a feature draft.
        number_format: of the matrices, the head's too, a key of `FORMATS`.
        max_model_len: longest context, tokens; 0 is what the draft was made for.

    Raises:
        ModelReferenceError: the configuration is none of a feature draft.
        ValueError: weights that are missing, or do not fit it.
    """
    config = FeatureDraftConfig.read(files)
    stored = SafetensorsCheckpoint(files.weight_files())
    shape = _shape(config, max_model_len)
    _check_tensors(config, shape, stored)
    token_ids = stored.dense(HEAD_ROW_IDS).numpy().astype(np.int64)
    embedding = stored.dense("embed_tokens.weight").float()  # [R + 1, hidden]
    fc = stored.dense("fc.weight").float()  # [hidden, 2 hidden]
    _check_token_ids(config, token_ids)
    head = embedding[:-1] if config.tie_word_embeddings else stored.dense("lm_head.weight").float()
    split = TensorCheckpoint(
        {
            "fc.weight": fc[:, config.hidden_size :].contiguous(),
            "head.weight": functional.pad(head, (0, 0, 0, -len(head) % _ROWS_TOGETHER)),
        }
    )
    layers, halves = (Parts(shape, each, number_format) for each in (stored, split))
    rows = np.full(config.vocab_size, config.draft_vocab_size)
    rows[token_ids] = np.arange(config.draft_vocab_size)
    normed = rms_norm(embedding, layers.norm("embed_norm"))
    # What fc makes of each token, [R + 1, hidden].
    seen = functional.linear(normed, fc[:, : config.hidden_size]).to(layers.dtype)

    def embed(token_ids: Sequence[int]) -> torch.Tensor:
        # Copied, since the layers add to it.
        return seen[torch.from_numpy(rows[token_ids])].to(torch.float32, copy=True)

    weights = LeanWeights(
        embed,
        layers.layers("layers"),
        layers.norm("norm"),
        halves.linear(["head"]),
    )
    features = FeatureParts(
        config, token_ids, rows, layers.norm("feature_norm"), halves.linear(["fc"])
    )
    backend = choose_backend(shape, layers.dtype)
    return FeatureDecoder(shape, weights, features, FORMATS[number_format], backend)


def _check_tensors(
    config: FeatureDraftConfig, shape: LeanConfig, stored: SafetensorsCheckpoint
) -> None:
    size, num_rows = config.hidden_size, config.draft_vocab_size
    if not num_rows:
        raise ValueError("a draft that can guess no token")
    head = {} if config.tie_word_embeddings else {"lm_head.weight": (num_rows, size)}
    norms = {f"{name}.weight": (size,) for name in ("embed_norm", "feature_norm", "norm")}
    own = {
        HEAD_ROW_IDS: (num_rows,),
        "embed_tokens.weight": (num_rows + 1, size),
        "fc.weight": (size, 2 * size),
    }
    check_tensors(own | head | norms | layer_tensors(shape, "layers"), stored)


def _check_token_ids(config: FeatureDraftConfig, token_ids: npt.NDArray[np.int64]) -> None:
    if (np.diff(token_ids) <= 0).any() or token_ids[0] < 0 or token_ids[-1] >= config.vocab_size:
        raise ValueError("token_ids that do not ascend within the target's vocabulary")


def _shape(config: FeatureDraftConfig, max_model_len: int) -> LeanConfig:
    return LeanConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        max_model_len=max_model_len or config.max_position_embeddings,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        num_kv_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        intermediate_size=config.intermediate_size,
        rms_norm_eps=config.rms_norm_eps,
        ties_embeddings=config.tie_word_embeddings,
        biased=frozenset(),
        norms_heads=False,
        rotations=[_rotation(config)],
        attentions=[LayerAttention()] * config.num_hidden_layers,
        score_scale=config.head_dim**-0.5,
    )


def _rotation(config: FeatureDraftConfig) -> Rotation:
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    return Rotation(config.rope_theta**-exponents)
