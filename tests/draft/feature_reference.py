"""The equations of a feature draft once more, plainly: float32, one position after another, no
cache. And random ones to try them on.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from forethought.models.feature_draft import MODEL_TYPE
from forethought.tier import ModelInfo


class FeatureReference:
    """fhat and logits at the end of a sequence."""

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        self.weights = {
            name: weight if name == "token_ids" else weight.float()
            for name, weight in load_file(folder / "model.safetensors").items()
        }
        self.token_ids = self.weights["token_ids"].tolist()

    def __call__(
        self, token_ids: Sequence[int], features: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """[n] tokens, each with [n, H] the hidden state before it -> fhat [H] and logits [R]."""
        w, config = self.weights, self.config
        rows = [self.token_ids.index(t) if t in self.token_ids else -1 for t in token_ids]
        embedded = self.norm(w["embed_tokens.weight"][rows], "embed_norm")
        x = torch.cat((embedded, self.norm(features.float(), "feature_norm")), dim=-1)
        x = functional.linear(x, w["fc.weight"])
        for layer in range(config["num_hidden_layers"]):
            name = f"layers.{layer}"
            x = x + self.attend(self.norm(x, f"{name}.input_layernorm"), f"{name}.self_attn")
            y = self.norm(x, f"{name}.post_attention_layernorm")
            gate, up = (functional.linear(y, w[f"{name}.mlp.{p}_proj.weight"]) for p in GATE_UP)
            down = w[f"{name}.mlp.down_proj.weight"]
            x = x + functional.linear(functional.silu(gate) * up, down)
        fhat = self.norm(x, "norm")[-1]
        head = w.get("lm_head.weight", w["embed_tokens.weight"][:-1])
        return fhat, head @ fhat

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        variance = x.square().mean(dim=-1, keepdim=True) + self.config["rms_norm_eps"]
        return x * variance.rsqrt() * self.weights[f"{name}.weight"]

    def attend(self, x: torch.Tensor, name: str) -> torch.Tensor:
        heads, dim = self.config["num_attention_heads"], self.config["head_dim"]
        q, k, v = (
            functional.linear(x, self.weights[f"{name}.{part}_proj.weight"])
            .view(len(x), -1, dim)
            .transpose(0, 1)
            for part in "qkv"
        )  # [heads, n, D]
        q, k = self.rotate(q), self.rotate(k)
        k, v = (each.repeat_interleave(heads // len(k), dim=0) for each in (k, v))
        scores = q @ k.transpose(1, 2) / dim**0.5 + torch.full((len(x),) * 2, -torch.inf).triu(1)
        mixed = (scores.softmax(dim=-1) @ v).transpose(0, 1).flatten(1)
        return functional.linear(mixed, self.weights[f"{name}.o_proj.weight"])

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        """By halves, as transformers has it."""
        half = x.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-torch.arange(half) / half)
        angles = torch.outer(torch.arange(x.shape[1]), frequencies)
        cos, sin = angles.cos(), angles.sin()
        left, right = x[..., :half], x[..., half:]
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


GATE_UP = ("gate", "up")


def write_feature_draft(
    folder: Path,
    target: ModelInfo,
    token_ids: Sequence[int],
    *,
    seed: int = 0,
    num_heads: int = 4,
    num_kv_heads: int = 2,
    intermediate_size: int = 64,
    head: torch.Tensor | None = None,
    scale: float = 1.5,
    dtype: torch.dtype = torch.float32,
    max_len: int | None = None,
) -> Path:
    """Random weights for a target; returns the folder.

    Args:
        folder: made if it is not there.
        target: whose hidden states it takes.
        token_ids: that it may guess, ascending.
        seed: of the weights.
        num_heads: query heads.
        num_kv_heads: key-value heads.
        intermediate_size: of the MLP.
        head: [R, hidden], in place of random rows.
        scale: standard deviation of the logits.
        dtype: stored.
        max_len: longest context, tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    size, head_dim = target.hidden_size, target.hidden_size // num_heads

    def matrix(rows: int, columns: int, gain: float = 1.0) -> torch.Tensor:
        return torch.randn(rows, columns, generator=generator) * gain * columns**-0.5

    def near_one() -> torch.Tensor:
        return 1 + 0.1 * torch.randn(size, generator=generator)

    kv_size = num_kv_heads * head_dim
    embedding = matrix(len(token_ids) + 1, size, gain=scale)
    if head is not None:
        embedding[:-1] = head
    weights = {
        "embed_tokens.weight": embedding,
        "embed_norm.weight": near_one(),
        "feature_norm.weight": near_one(),
        "fc.weight": matrix(size, 2 * size, gain=2**0.5),
        "layers.0.input_layernorm.weight": near_one(),
        "layers.0.self_attn.q_proj.weight": matrix(size, size, gain=2.0),
        "layers.0.self_attn.k_proj.weight": matrix(kv_size, size, gain=2.0),
        "layers.0.self_attn.v_proj.weight": matrix(kv_size, size),
        "layers.0.self_attn.o_proj.weight": matrix(size, size),
        "layers.0.post_attention_layernorm.weight": near_one(),
        "layers.0.mlp.gate_proj.weight": matrix(intermediate_size, size),
        "layers.0.mlp.up_proj.weight": matrix(intermediate_size, size),
        "layers.0.mlp.down_proj.weight": matrix(size, intermediate_size),
        "norm.weight": near_one(),
    }
    stored = {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    stored["token_ids"] = torch.tensor(token_ids, dtype=torch.int32)
    save_file(stored, folder / "model.safetensors")
    config = {
        "model_type": MODEL_TYPE,
        "hidden_size": size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_kv_heads,
        "head_dim": head_dim,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "vocab_size": target.vocab_size,
        "draft_vocab_size": len(token_ids),
        "tie_word_embeddings": True,
        "target": {
            "name": target.name,
            "model_fingerprint": target.weights_fingerprint,
            "vocabulary_fingerprint": target.vocabulary_fingerprint,
        },
    }
    if max_len is not None:
        config["max_position_embeddings"] = max_len
    (folder / "config.json").write_text(json.dumps(config))
    return folder
