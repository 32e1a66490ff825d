"""A draft that reads the target's mind: one decoder layer over tokens and features.

EAGLE (Li et al., arXiv 2401.15077). With t_i the token at position i and f_i the target's final
hidden state there, after its final norm:

    x_i    = fc(concat(norm(embed[t_i]), norm(f_{i-1})))
    fhat_i = norm(layers(x_i))                     logits of t_{i+1} = head fhat_i

While drafting, fhat takes the place of the features that the target has not computed yet. Embedding
and head are rows of the target's and stay as they are; tokens outside the draft's vocabulary share
one row that is learned.

It starts as one of the target's layers, with fc and the two outputs of the layer at zero:
`fitting.py` solves for these before training begins.
"""

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional

from forethought.distill.drafts.decoder import DecoderLayer, DecoderShape, Keys, Projection, RMSNorm
from forethought.distill.drafts.target_weights import TargetWeights
from forethought.distill.samples.batches import Batch, Rows
from forethought.distill.samples.corpus import Corpus
from forethought.distill.samples.vocabulary import DraftVocabulary


class FeatureDraft(nn.Module):
    """`TrainableDraft` over features.

    Args:
        shape: of its layer.
        embedding: [R, H] float32, the target's rows of the draft's vocabulary.
        head: the same of the target's head; None if that is its embedding.
        dtype: compute format.
    """

    feeds_back = True
    embedding: torch.Tensor
    rows: torch.Tensor
    head: torch.Tensor

    def __init__(
        self,
        shape: DecoderShape,
        embedding: torch.Tensor,
        head: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        hidden = shape.hidden_size
        self.ties_embeddings = head is None
        self.register_buffer("embedding", embedding, persistent=False)
        self.register_buffer("rows", embedding if head is None else head, persistent=False)
        self.register_buffer("head", self.rows.to(dtype), persistent=False)
        self.other_row = nn.Parameter(torch.zeros(hidden))  # embed_tokens.weight[R]
        self.embed_norm = RMSNorm(hidden, shape.rms_norm_eps)
        self.feature_norm = RMSNorm(hidden, shape.rms_norm_eps)
        self.fc = Projection(2 * hidden, hidden, dtype)
        self.layers = nn.ModuleList([DecoderLayer(shape, dtype)])
        self.norm = RMSNorm(hidden, shape.rms_norm_eps)

    def steps(self, corpus: Corpus, batch: Batch, num_steps: int) -> list[torch.Tensor]:
        embedded = self.embed_norm(self.embed(corpus.rows[batch.index]))
        features = corpus.features[batch.index - 1].float()
        past: list[list[Keys]] = [[] for _ in self.layers]
        guesses: list[torch.Tensor] = []
        for _ in range(num_steps):
            guesses.append(self.norm(self._stream(embedded, features, batch.rows, past)))
            features = functional.pad(guesses[-1][:, :-1], (0, 0, 1, 0))
        return guesses

    def stream(self, corpus: Corpus, batch: Batch) -> torch.Tensor:
        """The residual stream at the end of the first step, [B, L, H] float32: `steps` without the
        last norm."""
        embedded = self.embed_norm(self.embed(corpus.rows[batch.index]))
        features = corpus.features[batch.index - 1].float()
        return self._stream(embedded, features, batch.rows, [[] for _ in self.layers])

    def summands(self) -> list[Projection]:
        """The projections whose outputs add up to the residual stream, in their order."""
        found = [self.fc]
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            found += [layer.self_attn.o_proj, layer.mlp.down_proj]
        return found

    def tensors(self) -> Mapping[str, torch.Tensor]:
        own = {name: value for name, value in self.state_dict().items() if name != "other_row"}
        table = torch.cat((self.embedding, self.other_row.detach()[None]))
        head = {} if self.ties_embeddings else {"lm_head.weight": self.rows}
        return {"embed_tokens.weight": table, **head, **own}

    def _stream(
        self,
        embedded: torch.Tensor,
        features: torch.Tensor,
        rows: Rows,
        past: list[list[Keys]],
    ) -> torch.Tensor:
        x: torch.Tensor = self.fc(torch.cat((embedded, self.feature_norm(features)), dim=-1))
        x = x.float()
        for layer, keys in zip(self.layers, past, strict=True):
            x = layer(x, rows, keys)
        return x

    def embed(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows [...] of the vocabulary -> [..., H]."""
        is_other = rows == len(self.embedding)
        known = self.embedding[rows.where(~is_other, 0)]
        return torch.where(is_other[..., None], self.other_row, known)


def make_feature_draft(
    target: TargetWeights, vocabulary: DraftVocabulary, dtype: torch.dtype, init_layer: int = -1
) -> FeatureDraft:
    """A draft whose layer is the target's of number `init_layer`; what it says is still nothing."""
    embedding, chosen = target.embedding(), vocabulary.token_ids.long()
    head = None if target.config.ties_embeddings else target.head()[chosen]
    draft = FeatureDraft(DecoderShape.of(target), embedding[chosen], head, dtype)
    layer = target.layer(init_layer)
    for name in ("self_attn.o_proj.weight", "mlp.down_proj.weight"):
        layer[name] = torch.zeros_like(layer[name])
    left_out = vocabulary.rows == len(vocabulary)
    with torch.no_grad():
        draft.layers[0].load_state_dict(layer)
        draft.norm.weight.copy_(target.final_norm())
        if left_out.any():
            draft.other_row.copy_(embedding[left_out].mean(dim=0))
    return draft
