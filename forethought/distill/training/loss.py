"""How far a draft's distribution q is from the target's p, of which the likeliest tokens are known.

S is the set of listed tokens that the draft can say. What p has outside of the list is a single
event, "anything else", with the mass that q has outside of S. The loss is the cross-entropy

    - sum over S of p log q  -  p(else) log q(else)

which is least where q = p on S. What p gives to listed tokens that the draft has no row for is left
out: no draft gets it.

A draft far smaller than its target cannot have q = p, and the cross-entropy would have it spread
out to cover all of p. What counts is less than that: how much of q lies within p. So a part of the
loss may be

    - log of the sum over S of min(p, q)

minus the logarithm of the share of guesses that rejection sampling accepts.

The gradient is computed with the loss, for some rows at a time: what is kept of a row of logits are
the numbers that go back through the head. Nothing as large as the logits of a batch ever exists.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

from forethought.distill.samples.corpus import TopEntries

_CHUNK_LEN = 512  # rows at a time: their logits should stay near the processor
_TINY = 1e-6


@dataclass(frozen=True, slots=True)
class Match:
    """How well q fits p, at N positions."""

    overlap: torch.Tensor  # [N] sum of min(p, q) over S: what rejection sampling accepts at least
    agreement: torch.Tensor  # [N] float32 1 where the likeliest tokens are the same


def mean_loss(
    hidden: torch.Tensor, head: torch.Tensor, top: TopEntries, acceptance_weight: float = 0.0
) -> torch.Tensor:
    """The mean over N positions of the loss, in nats.

    Args:
        hidden: [N, H] what the head multiplies.
        head: [R, H] in the compute format; gets no gradient.
        top: of the target.
        acceptance_weight: from 0 to 1, what part of the loss is that of acceptance.
    """
    loss: torch.Tensor = _Loss.apply(  # type: ignore[no-untyped-call]
        hidden, head, top, acceptance_weight
    )
    return loss / max(len(hidden), 1)


@torch.no_grad()
def match(hidden: torch.Tensor, head: torch.Tensor, top: TopEntries) -> Match:
    """What rejection sampling and greedy decoding would accept."""
    overlaps, agreements = [], []
    for start in range(0, len(hidden), _CHUNK_LEN):
        part = top[start : start + _CHUNK_LEN]
        logits = functional.linear(hidden[start : start + _CHUNK_LEN].to(head.dtype), head).float()
        q, is_own, rows = _on_list(logits.softmax(dim=-1), part)
        overlaps.append(torch.minimum(q, part.probs).mul(is_own).sum(dim=-1))
        best = torch.where(is_own[:, 0], rows[:, 0], -1)
        agreements.append((logits.argmax(dim=-1) == best).float())
    empty = [hidden.new_empty(0)]
    return Match(torch.cat(overlaps or empty), torch.cat(agreements or empty))


def _on_list(q: torch.Tensor, top: TopEntries) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q of the listed tokens, which of them the draft can say, and their rows, with any row for
    those that it cannot."""
    is_own = top.rows < q.shape[-1]  # [N, k]
    rows = top.rows.where(is_own, 0)
    return q.gather(1, rows), is_own, rows


class _Loss(torch.autograd.Function):
    """The sum of the loss over positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        top: TopEntries,
        acceptance_weight: float,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float64)
        gradients = torch.empty_like(hidden)
        for start in range(0, len(hidden), _CHUNK_LEN):
            chunk = slice(start, start + _CHUNK_LEN)
            loss, slopes = _loss_and_slopes(
                hidden[chunk].to(head.dtype), head, top[chunk], acceptance_weight
            )
            total += loss
            gradients[chunk] = (slopes.to(head.dtype) @ head).to(hidden.dtype)
        ctx.save_for_backward(gradients)
        return total.to(torch.float32)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (gradients,) = ctx.saved_tensors
        return gradients * slope, None, None, None


def _loss_and_slopes(
    hidden: torch.Tensor, head: torch.Tensor, top: TopEntries, acceptance_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss's sum over some positions, and its derivatives by the logits, [n, R] float32."""
    q = functional.linear(hidden, head).softmax(dim=-1, dtype=torch.float32)
    own_q, is_own, rows = _on_list(q, top)
    own_p = top.probs * is_own
    rest_p = (1 - top.probs.sum(dim=-1, keepdim=True)).clamp_(min=0)  # [n, 1]
    rest_q = (1 - (own_q * is_own).sum(dim=-1, keepdim=True)).clamp_(min=_TINY)
    total = own_p.sum(dim=-1, keepdim=True) + rest_p
    entropy = -(own_p * own_q.clamp(min=_TINY).log()).sum() - (rest_p * rest_q.log()).sum()
    # d/dz = total q - p on S, and total q - p(else) q / q(else) elsewhere.
    ratio = rest_p / rest_q
    common = total - ratio  # of all tokens: times q
    listed = (ratio * own_q - own_p) * is_own
    loss = entropy
    if acceptance_weight:
        # With m where q < p on S, and A the sum of min(p, q): d/dz = q (sum of m q - m) / A.
        accepted = torch.minimum(own_q, own_p).sum(dim=-1, keepdim=True).clamp_(min=_TINY)
        short_q = own_q * ((own_q < own_p) & is_own)
        loss = torch.lerp(entropy, -accepted.log().sum(), acceptance_weight)
        common = torch.lerp(common, short_q.sum(dim=-1, keepdim=True) / accepted, acceptance_weight)
        listed = torch.lerp(listed, -short_q / accepted, acceptance_weight)
    slopes = q.mul_(common)
    slopes.scatter_add_(1, rows, listed)
    return loss, slopes
