"""The feature draft as it is trained, against its equations written down once more."""

from pathlib import Path

import numpy as np
import torch

from forethought.distill.pipeline import Architecture, Run
from forethought.distill.samples.batches import make_batch, windows
from forethought.distill.samples.corpus import Corpus
from forethought.distill.training.trainer import scored_by_step
from forethought.models.files.reference import resolve
from tests.distill.conftest import options

EPS = 1e-6


def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + EPS).sqrt() * weight


def rotated(x: torch.Tensor, position: int, theta: float) -> torch.Tensor:
    """[heads, D], numbers half a head apart."""
    half = x.shape[-1] // 2
    angles = position / theta ** (torch.arange(half) * 2 / x.shape[-1])
    left, right = x[:, :half], x[:, half:]
    return torch.cat(
        (left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()), 1
    )


class PlainDraft:
    """One token after another, with a cache of keys and values for each position."""

    def __init__(self, tensors: dict[str, torch.Tensor], head_dim: int, theta: float) -> None:
        self.tensors = tensors
        self.head_dim = head_dim
        self.theta = theta
        self.cache: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def feed(self, position: int, row: int, feature: torch.Tensor) -> torch.Tensor:
        """fhat at `position`; what was cached there is replaced."""
        w = self.tensors
        embedded = norm(w["embed_tokens.weight"][row], w["embed_norm.weight"])
        x = w["fc.weight"] @ torch.cat((embedded, norm(feature, w["feature_norm.weight"])))
        layer = {k.removeprefix("layers.0."): v for k, v in w.items() if k.startswith("layers.0.")}
        y = norm(x, layer["input_layernorm.weight"])
        q, k, v = (
            (layer[f"self_attn.{part}_proj.weight"] @ y).view(-1, self.head_dim) for part in "qkv"
        )
        self.cache[position] = (rotated(k, position, self.theta), v)
        q = rotated(q, position, self.theta)
        seen = [self.cache[place] for place in sorted(self.cache) if place <= position]
        group = len(q) // len(k)
        heads = []
        for index, query in enumerate(q):
            scores = torch.stack([keys[index // group] @ query for keys, _ in seen])
            weights = (scores / self.head_dim**0.5).softmax(0)
            heads.append(
                sum(
                    p * values[index // group] for p, (_, values) in zip(weights, seen, strict=True)
                )
            )
        x = x + layer["self_attn.o_proj.weight"] @ torch.cat(heads)
        y = norm(x, layer["post_attention_layernorm.weight"])
        gate, up = (layer[f"mlp.{part}_proj.weight"] @ y for part in ("gate", "up"))
        x = x + layer["mlp.down_proj.weight"] @ (torch.nn.functional.silu(gate) * up)
        return norm(x, w["norm.weight"])


def test_each_unrolled_step_is_what_serving_drafts(target_folder: Path, data_folder: Path):
    run = Run(resolve(str(target_folder)), data_folder, options(Architecture.FEATURE))
    vocabulary = run.vocabulary()
    corpus = run.corpus(vocabulary)
    draft = run.new_draft(vocabulary)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in draft.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * weight.shape[-1] ** -0.5)
    batch, index = two_windows(corpus)
    with torch.no_grad():
        steps = draft.steps(corpus, batch, 3)
    tensors = {name: value.detach() for name, value in draft.tensors().items()}
    shape = draft.layers[0].self_attn.shape
    num_checked = 0
    for end in torch.nonzero(scored_by_step(batch, 3)[2])[:, 1].tolist():
        # Committed up to end - 2: two positions are drafted from the draft's own features.
        plain = PlainDraft(tensors, shape.head_dim, shape.rope_theta)
        segments = batch.rows.segments[0]
        first = int((segments == segments[end]).nonzero()[0])
        feature = torch.empty(0)
        for place in range(first, end + 1):
            at = int(index[0, place])
            feature = corpus.features[at - 1].float() if place <= end - 2 else feature
            feature = plain.feed(place, int(corpus.rows[at]), feature)
            if place >= end - 2:
                torch.testing.assert_close(
                    steps[place - end + 2][0, place], feature, atol=2e-5, rtol=1e-4
                )
                num_checked += 1
    assert num_checked > 20


def two_windows(corpus: Corpus):
    index, segments = windows(corpus, np.array([0, 1]), np.array([3, 2]))
    index, segments = (each[None] for each in (index, segments))
    batch = make_batch(corpus, index, segments)
    return batch, index


def test_tokens_outside_the_vocabulary_share_a_row_that_is_learned(
    target_folder: Path, data_folder: Path
):
    run = Run(resolve(str(target_folder)), data_folder, options(Architecture.FEATURE))
    draft = run.new_draft(run.vocabulary())
    num_rows = len(draft.embedding)
    table = draft.tensors()["embed_tokens.weight"]
    assert len(table) == num_rows + 1
    torch.testing.assert_close(draft.embed(torch.tensor([num_rows])), table[-1:])
    draft.embed(torch.tensor([num_rows])).sum().backward()
    assert draft.other_row.grad is not None
