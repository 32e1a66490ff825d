"""Tokens drawn from distributions, and distributions reduced to what travels.

The wire carries float32. A draft distribution that lost something there would be another one at
the other end, and a token drawn from the first and judged by the second is not judged exactly.
So its probabilities are rounded first, to multiples of 2**-24 that sum to exactly 1: float32
holds each of them, doubles hold all their sums, and normalising them divides by one. What little
the rounding moves costs acceptance, never exactness.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch

from forethought.engine.rows import native_rows, torch_rows
from forethought.engine.rows.row_measures import FlatSupports, RowMeasures
from forethought.errors import InvalidArgumentError
from forethought.sampling.rejection import draw_index
from forethought.sampling.types import (
    DraftedToken,
    PositionEvidence,
    PositionLogprobs,
    Probabilities,
    as_probabilities,
)

_NUM_QUANTA = 2**24


@torch.inference_mode()
def draw_drafts(
    probs: torch.Tensor, max_support: int, uniforms: Sequence[float]
) -> list[DraftedToken]:
    """Draws a guess from the most likely tokens of each distribution.

    Args:
        probs: [n, V] float32.
        max_support: M, most tokens in the support of q.
        uniforms: for each row a draw from [0, 1).

    Returns:
        For each row the guess and q, most likely token first: at most M tokens, all with q above
        zero.
    """
    size = min(max_support, probs.shape[-1])  # M
    top = native_rows.top if native_rows.takes(probs) else torch_rows.top
    return [
        _draw(weights, token_ids, u)
        for weights, token_ids, u in zip(*top(probs, size), uniforms, strict=True)
    ]


def _draw(weights: Sequence[float], token_ids: Sequence[int], u: float) -> DraftedToken:
    """[M] weights and tokens, the largest first."""
    draft_probs = _in_quanta(weights)
    support = token_ids[: len(draft_probs)]
    return DraftedToken(support[draw_index(draft_probs, u)], support, as_probabilities(draft_probs))


@torch.inference_mode()
def measure(
    probs: torch.Tensor, supports: Sequence[Sequence[int]], uniforms: Sequence[float]
) -> list[PositionEvidence]:
    """Reduces target distributions to the evidence that rejection sampling needs.

    Args:
        probs: [n, V] float32, not changed; n = K + 1.
        supports: for each row the tokens whose probability is wanted; empty for the bonus row.
        uniforms: for each row a draw from [0, 1), which chooses its tail token.

    Returns:
        The evidence of each row, normalised: its target_probs and tail_mass sum to 1.

    Raises:
        InvalidArgumentError: a support holds what is not a token.
    """
    flat = flat_supports(supports, vocab_size=probs.shape[-1])
    measure_rows = native_rows.measure if native_rows.takes(probs) else torch_rows.measure
    return as_evidence(flat, measure_rows(probs, flat, uniforms))


@torch.inference_mode()
def logprob_rows(
    logits: torch.Tensor,
    supports: Sequence[Sequence[int]],
    tail_token_ids: Sequence[int],
    num_top: int,
) -> list[PositionLogprobs]:
    """The model's own log-probabilities, before any shaping.

    Args:
        logits: [n, V] float32.
        supports: for each row the tokens of its support.
        tail_token_ids: for each row its tail token.
        num_top: most likely tokens wanted for each row, 0 or more.

    Raises:
        InvalidArgumentError: a support holds what is not a token.
    """
    flat = flat_supports(supports, vocab_size=logits.shape[-1])
    rows, columns = flat.rows, flat.token_ids
    norms = logits.logsumexp(dim=-1)  # [n]
    on_support = iter((logits[rows, columns] - norms[rows]).tolist())
    tails = torch.tensor(tail_token_ids, dtype=torch.long, device=logits.device)  # [n]
    tail_logprobs = logits.gather(1, tails[:, None])[:, 0] - norms
    top_logits, top_ids = logits.topk(min(num_top, logits.shape[-1]))  # [n, num_top]
    return [
        PositionLogprobs([next(on_support) for _ in support], *values)
        for support, *values in zip(
            supports,
            tail_logprobs.tolist(),
            top_ids.tolist(),
            (top_logits - norms[:, None]).tolist(),
            strict=True,
        )
    ]


def _in_quanta(weights: Sequence[float]) -> list[float]:
    """Probabilities that float32 holds and that sum to exactly 1; without those that round to 0.

    Args:
        weights: [M], largest first.
    """
    total = sum(weights)
    # Plain Python is three times as fast as numpy on lists this short.
    quanta = [round(weight / total * _NUM_QUANTA) for weight in weights]
    # The largest of M < 2**12 weights is far above the M / 2 quanta that rounding can be off by.
    quanta[0] += _NUM_QUANTA - sum(quanta)
    return [count / _NUM_QUANTA for count in quanta if count]


def as_evidence(supports: FlatSupports, measures: RowMeasures) -> list[PositionEvidence]:
    """The evidence of each row, from weights that sum to 1 but for float32's rounding."""
    return [
        _as_evidence(measures.on_support[start:end], tail_mass, tail_id, tail_prob, greedy_id)
        for (start, end), tail_mass, tail_id, tail_prob, greedy_id in zip(
            pairwise(supports.bounds),
            measures.tail_masses,
            measures.tail_ids,
            measures.tail_probs,
            measures.greedy_ids,
            strict=True,
        )
    ]


def _as_evidence(
    target_probs: Probabilities,
    tail_mass: float,
    tail_token_id: int,
    tail_token_prob: float,
    greedy_token_id: int,
) -> PositionEvidence:
    total = float(target_probs.sum()) + tail_mass
    return PositionEvidence(
        target_probs=target_probs / total,
        tail_mass=tail_mass / total,
        tail_token_id=tail_token_id if tail_mass else 0,
        tail_token_prob=tail_token_prob / total if tail_mass else 0.0,
        greedy_token_id=greedy_token_id,
    )


def flat_supports(supports: Sequence[Sequence[int]], vocab_size: int) -> FlatSupports:
    """Raises InvalidArgumentError where a support holds what is not a token."""
    token_ids = [token_id for support in supports for token_id in support]
    # Refused here, since it would be a fault on the device there.
    if token_ids and not 0 <= min(token_ids) <= max(token_ids) < vocab_size:
        raise InvalidArgumentError({"support_token_ids": "not in the model's vocabulary"})
    return FlatSupports(token_ids, [0, *accumulate(map(len, supports))])
