"""A draft that is a smaller model of the target's family: some of its layers, trained on.

Embedding and head are the target's and stay as they are; of the head it has the rows of the tokens
that it can say.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from forethought.distill.drafts.decoder import DecoderLayer, DecoderShape, RMSNorm
from forethought.distill.drafts.target_weights import TargetWeights
from forethought.distill.samples.batches import Batch
from forethought.distill.samples.corpus import Corpus
from forethought.distill.samples.vocabulary import DraftVocabulary


class LlamaDraft(nn.Module):
    """`TrainableDraft` over tokens alone.

    Args:
        target: whose weights it begins with.
        vocabulary: of the draft.
        layers: which of them, in the draft's order.
        dtype: compute format.
    """

    feeds_back = False
    embedding: torch.Tensor
    rows: torch.Tensor
    head: torch.Tensor

    def __init__(
        self,
        target: TargetWeights,
        vocabulary: DraftVocabulary,
        layers: Sequence[int],
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        shape = DecoderShape.of(target)
        self.ties_embeddings = target.config.ties_embeddings and vocabulary.is_whole
        self.register_buffer("embedding", target.embedding(), persistent=False)
        rows = target.head()[vocabulary.token_ids.long()]
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("head", self.rows.to(dtype), persistent=False)
        self.layers = nn.ModuleList([DecoderLayer(shape, dtype) for _ in layers])
        self.norm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        for layer, index in zip(self.layers, layers, strict=True):
            layer.load_state_dict(target.layer(index))
        with torch.no_grad():
            self.norm.weight.copy_(target.final_norm())

    def steps(self, corpus: Corpus, batch: Batch, num_steps: int) -> list[torch.Tensor]:  # noqa: ARG002
        x = self.embedding[corpus.token_ids[batch.index]]
        for layer in self.layers:
            x = layer(x, batch.rows, [])
        return [self.norm(x)]

    def tensors(self) -> Mapping[str, torch.Tensor]:
        own = {f"model.{name}": value for name, value in self.state_dict().items()}
        head = {} if self.ties_embeddings else {"lm_head.weight": self.rows}
        return {"model.embed_tokens.weight": self.embedding, **head, **own}
