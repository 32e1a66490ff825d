"""From logits to the distribution that is sampled.

Repetition penalty, temperature, top-k, top-p and min-p, in this order and with the meaning that
transformers gives them (`generation/logits_process.py`), up to ties. transformers masks logits
and takes the softmax again after each filter. Here it is taken once, and the filters cut
probabilities: a cut never depends on what cutting and renormalising does to all of them alike.

Top-p asks for the most likely tokens that together reach a mass. Sorting a whole vocabulary for
that takes 11 ms for [5, 49152]; usually the 64 most likely tokens reach it, which takes 0.3. If the
tokens looked at reach the mass, no other token can belong to the answer, so this is exact.
"""

from collections.abc import Sequence

import torch

from forethought.engine.blocks import argmax_in_blocks, in_blocks
from forethought.errors import ForethoughtError
from forethought.sampling.params import SamplingParams

_NUCLEUS_SIZES = (64, 1024, 8192)
"""How many tokens are looked at for top-p, one size after the other, before all are sorted."""
_MIN_TEMPERATURE = 1e-37
"""Below it one-hot in float32 all the same, but its reciprocal would no longer be a number."""


@torch.inference_mode()
def shape_logits(
    logits: torch.Tensor, params: SamplingParams, contexts: Sequence[Sequence[int]] = ()
) -> torch.Tensor:
    """The distributions that `params` makes of `logits`.

    Args:
        logits: [n, V] float32, not changed.
        params: what to apply to every row.
        contexts: for each row the tokens before it, to which the repetition penalty applies;
            unused without one. See `row_contexts`.

    Returns:
        [n, V] float32; rows sum to 1 up to rounding, or are one-hot where temperature is 0.

    Raises:
        ForethoughtError: a row has logits that are not numbers.
    """
    if params.repetition_penalty != 1:
        logits = _penalised(logits, params.repetition_penalty, contexts)
    if params.is_greedy:
        greedy_ids = argmax_in_blocks(in_blocks(logits, -torch.inf))  # [n]
        _refuse_nan(logits.gather(1, greedy_ids[:, None]))
        return torch.zeros_like(logits).scatter_(1, greedy_ids[:, None], 1.0)
    # [n, V]; the largest is 0, so that a temperature near 0 cannot overflow.
    scores = logits - logits.amax(dim=-1, keepdim=True)
    probs = scores.div_(max(params.temperature, _MIN_TEMPERATURE)).softmax(dim=-1)
    _refuse_nan(probs[:, :1])
    if params.top_k or params.top_p < 1:
        return _cut_sorted(probs, params)
    if params.min_p:
        floor = params.min_p * probs.amax(dim=-1, keepdim=True)  # [n, 1]
        probs = probs.where(probs >= floor, 0.0)
        return probs.div_(probs.sum(dim=-1, keepdim=True))
    return probs


def row_contexts(
    params: SamplingParams, committed_token_ids: Sequence[int], draft_token_ids: Sequence[int]
) -> list[list[int]]:
    """The contexts of the K + 1 rows that score K guesses; empty if `params` has no use for them.

    Row i follows the committed tokens and the first i guesses.
    """
    if params.repetition_penalty == 1:
        return []
    # A token counts once however often it occurs.
    committed = list(set(committed_token_ids))
    return [[*committed, *draft_token_ids[:num]] for num in range(len(draft_token_ids) + 1)]


def _penalised(
    logits: torch.Tensor, penalty: float, contexts: Sequence[Sequence[int]]
) -> torch.Tensor:
    logits = logits.clone()
    for row, context in zip(logits, contexts, strict=True):
        token_ids = torch.tensor(context, dtype=torch.long, device=logits.device)  # [tokens]
        seen = row[token_ids]
        row[token_ids] = torch.where(seen < 0, seen * penalty, seen / penalty)
    return logits


def _cut_sorted(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """Top-k and top-p, then min-p, on each row's most likely tokens."""
    # Both [n, m], most likely first.
    top_probs, top_ids = _most_likely(probs, params)
    kept = torch.ones_like(top_probs, dtype=torch.bool)
    if params.top_p < 1:
        mass = top_probs.cumsum(dim=-1, dtype=torch.float64)
        # What remains after top-k is the whole. Without top-k the tokens not looked at belong to
        # it too, and all of them sum to 1.
        whole = mass[:, -1:] if params.top_k else 1.0
        kept &= mass - top_probs < params.top_p * whole
        kept[:, 0] = True  # also where top_p is too small for its product to be a number
    if params.min_p:
        kept &= top_probs >= params.min_p * top_probs[:, :1]
    top_probs = top_probs.where(kept, 0.0)
    top_probs /= top_probs.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probs).scatter_(1, top_ids, top_probs)


def _most_likely(probs: torch.Tensor, params: SamplingParams) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and ids [n, m], most likely first: the top k, or enough of them for top-p."""
    vocab_size = probs.shape[-1]
    if params.top_k:
        top_probs, top_ids = probs.topk(min(params.top_k, vocab_size))
        return top_probs, top_ids
    for size in _NUCLEUS_SIZES:
        if size < vocab_size:
            top_probs, top_ids = probs.topk(size)
            if bool((top_probs.sum(dim=-1, dtype=torch.float64) >= params.top_p).all()):
                return top_probs, top_ids
    top_probs, top_ids = probs.sort(dim=-1, descending=True)
    return top_probs, top_ids


def _refuse_nan(values: torch.Tensor) -> None:
    """One value that is not a number spoils a whole softmax, and wins every maximum."""
    if bool(values.isnan().any()):
        raise ForethoughtError("the model computed logits that are not numbers")
