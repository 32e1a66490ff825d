"""The decoder layer of a draft, as it is trained: Llama's, over rows of packed sequences.

Weights are float32 and are rounded to the compute format for each product, activations with them.
Modules are named as transformers names them, so that a state dict is a checkpoint.

*Unrolled steps.* While drafting, the k-th drafted position has seen the target's features up to the
committed end only; what it knows of the k - 1 positions before itself are the draft's own guesses.
Training does this for all positions of a row at once, one step for each k (EAGLE-3's training-time
test, arXiv 2503.01840). A position i of step k looks at the keys of step 1 up to i - k + 1, and at
one key of each later step: that of step m at i - k + m. So a step adds a column to the scores, not
a matrix.

Letters: B rows, L tokens of a row, H query heads, J key-value heads, G = H / J, D head size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from forethought.distill.drafts.target_weights import TargetWeights
from forethought.distill.samples.batches import Rows


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """Of one layer."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def of(cls, target: TargetWeights) -> "DecoderShape":
        """The same as the target's layers."""
        config = target.config
        return cls(
            hidden_size=len(target.final_norm()),
            intermediate_size=config.intermediate_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            rms_norm_eps=config.rms_norm_eps,
            rope_theta=target.rope_theta,
        )


class Keys(NamedTuple):
    """What a step leaves for those after it."""

    keys: torch.Tensor  # [B, J, L, D]
    values: torch.Tensor


class RMSNorm(nn.Module):
    """In float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(x.float(), self.weight.shape, self.weight, self.eps)


class Projection(nn.Module):
    """A product without offset, in the compute format."""

    def __init__(self, num_inputs: int, num_outputs: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_outputs, num_inputs))
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x.to(self.dtype), self.weight.to(self.dtype))


class Attention(nn.Module):
    """Causal, within the texts of a row."""

    inv_freq: torch.Tensor

    def __init__(self, shape: DecoderShape, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape = shape
        hidden, size = shape.hidden_size, shape.head_dim
        self.q_proj = Projection(hidden, shape.num_heads * size, dtype)
        self.k_proj = Projection(hidden, shape.num_kv_heads * size, dtype)
        self.v_proj = Projection(hidden, shape.num_kv_heads * size, dtype)
        self.o_proj = Projection(shape.num_heads * size, hidden, dtype)
        halves = torch.arange(0, size, 2, dtype=torch.float64) / size
        self.register_buffer("inv_freq", 1.0 / shape.rope_theta**halves, persistent=False)

    def forward(self, x: torch.Tensor, rows: Rows, past: list[Keys]) -> torch.Tensor:
        """[B, L, hidden] -> the same.

        Args:
            x: normed.
            rows: what the batch is made of.
            past: keys of the steps before; this step's are added.
        """
        batch, length, _ = x.shape
        queries, keys, values = (
            proj(x).view(batch, length, -1, self.shape.head_dim).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        queries, keys = self._rotate(queries), self._rotate(keys)
        past.append(Keys(keys, values))
        mixed = self._mix(queries, rows.mask(len(past)), past)  # [B, H, L, D]
        y: torch.Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return y

    def _mix(self, queries: torch.Tensor, mask: torch.Tensor, past: list[Keys]) -> torch.Tensor:
        batch, num_heads, length, size = queries.shape
        num_kv_heads, first = self.shape.num_kv_heads, past[0]
        grouped = queries.reshape(batch, num_kv_heads, -1, size) * size**-0.5  # [B, J, G L, D]
        scores = (grouped @ first.keys.transpose(2, 3)).float().view(batch, -1, length, length)
        scores = scores.masked_fill(~mask[:, None], -torch.inf)  # [B, H, L, L]
        own = [
            self._repeated(shifted(each, len(past) - step))
            for step, each in enumerate(past[1:], start=2)
        ]
        columns = [
            (queries * each.keys).float().sum(dim=-1, keepdim=True) * size**-0.5 for each in own
        ]
        weights = torch.cat((scores, *columns), dim=-1).softmax(dim=-1).to(queries.dtype)
        seen = weights[..., :length].reshape(batch, num_kv_heads, -1, length)
        mixed = (seen @ first.values).view(batch, num_heads, length, size)
        for index, each in enumerate(own):
            mixed = mixed + weights[..., length + index, None] * each.values
        return mixed

    def _repeated(self, keys: Keys) -> Keys:
        group = self.shape.num_heads // self.shape.num_kv_heads
        return Keys(*(each.repeat_interleave(group, dim=1) for each in keys))

    def _rotate(self, heads: torch.Tensor) -> torch.Tensor:
        """[B, heads, L, D], each by its place in the row."""
        angles = torch.outer(torch.arange(heads.shape[2], dtype=torch.float64), self.inv_freq)
        cos, sin = angles.cos().to(heads.dtype), angles.sin().to(heads.dtype)  # [L, D / 2]
        left, right = heads.chunk(2, dim=-1)
        return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: DecoderShape, dtype: torch.dtype) -> None:
        super().__init__()
        self.gate_proj = Projection(shape.hidden_size, shape.intermediate_size, dtype)
        self.up_proj = Projection(shape.hidden_size, shape.intermediate_size, dtype)
        self.down_proj = Projection(shape.intermediate_size, shape.hidden_size, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return y


class DecoderLayer(nn.Module):
    """Pre-norm attention and MLP with residuals, which are float32."""

    def __init__(self, shape: DecoderShape, dtype: torch.dtype) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape, dtype)
        self.post_attention_layernorm = RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = MLP(shape, dtype)

    def forward(self, x: torch.Tensor, rows: Rows, past: list[Keys]) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rows, past).float()
        y: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x)).float()
        return y


def shifted(keys: Keys, distance: int) -> Keys:
    """Each token's from `distance` places before it; zeros where there is none."""
    if not distance:
        return keys
    return Keys(*(functional.pad(each[:, :, :-distance], (0, 0, distance, 0)) for each in keys))
