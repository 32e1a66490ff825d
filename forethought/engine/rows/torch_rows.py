"""Rows over a vocabulary in torch's operations: right everywhere, and the measure for others.

Top-p asks for the most likely tokens that together reach a mass. Sorting a whole vocabulary for
that takes 27 ms for [5, 49152]; usually the 64 most likely tokens reach it, which takes 0.5. If the
tokens looked at reach the mass, no other token can belong to the answer, so this is exact.

What is left to torch's own reductions: softmax and maximum give a row the same bits alone and
beside others on the CPU. On an accelerator the kernel, and with it the last bit, may depend on the
shape, as it does in the model's own pass.

Shapes: n rows, V tokens in the vocabulary.
"""

from collections.abc import Sequence

import torch

from forethought.engine.rows.blocks import argmax_in_blocks, in_blocks, invert_in_blocks
from forethought.engine.rows.row_measures import FlatSupports, RowMeasures
from forethought.engine.rows.torch_noise import exponentials
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Probabilities, as_probabilities

_NUCLEUS_SIZES = (64, 1024, 8192)
"""How many tokens are looked at for top-p, one size after the other, before all are sorted."""
_NUM_QUANTA = 2.0**52
"""Of a probability of 1. Float64 holds all whole numbers up to twice as many."""
_MIN_TEMPERATURE = 1e-37
"""Below it one-hot in float32 all the same, but its reciprocal would no longer be a number."""


def shape(logits: torch.Tensor, params: Sequence[SamplingParams]) -> torch.Tensor | None:
    """Softmax and filters of [n, V], each row by its own parameters, the penalty left out.

    Rows that are shaped alike are shaped together, for the price of one.

    Returns:
        [n, V], or None if a row has logits that are not numbers.
    """
    alike: dict[tuple[float, ...], list[int]] = {}
    for row, own in enumerate(params):
        alike.setdefault(own.shape, []).append(row)
    if len(alike) == 1:
        return _shape_alike(logits, params[0])
    probs = torch.empty_like(logits)
    for rows in alike.values():
        shaped = _shape_alike(logits[rows], params[rows[0]])
        if shaped is None:
            return None
        probs[rows] = shaped
    return probs


def top(probs: torch.Tensor, count: int) -> tuple[list[list[float]], list[list[int]]]:
    """The largest of each row of [n, V], largest first: [n, count] probabilities and ids."""
    top_probs, top_ids = probs.topk(count)
    return top_probs.tolist(), top_ids.tolist()


def measure(probs: torch.Tensor, supports: FlatSupports, uniforms: Sequence[float]) -> RowMeasures:
    """Measures [n, V].

    Args:
        probs: not changed.
        supports: the tokens whose probability is wanted.
        uniforms: for each row a draw from [0, 1), which chooses its tail token.
    """
    blocks, tail = _blocks_and_tail(probs, supports)
    draws = torch.tensor(uniforms, dtype=torch.float64, device=probs.device)  # [n]
    tail_ids, tail_masses = invert_in_blocks(tail, draws)
    tail_ids = tail_ids.clamp(max=probs.shape[-1] - 1)
    return RowMeasures(
        _on_support(probs, supports),
        tail_masses.tolist(),
        probs.gather(1, tail_ids[:, None])[:, 0].tolist(),
        tail_ids.tolist(),
        argmax_in_blocks(blocks).tolist(),
    )


def choose(probs: torch.Tensor, keys: Sequence[int]) -> Sequence[int]:
    """The token of each of [n, V] with the least E / p, by the noise of its key.

    Returns:
        [n] tokens, with p above zero in all rows that have any.
    """
    # A token without probability has an infinite score and is never chosen.
    scores = exponentials(keys, probs.shape[-1], probs.device).div_(probs)
    chosen: list[int] = scores.argmin(dim=-1).tolist()
    return chosen


def measure_coupled(
    probs: torch.Tensor, supports: FlatSupports, keys: Sequence[int]
) -> RowMeasures:
    """As `measure`, but each row's tail token is chosen by the noise of its key."""
    blocks, tail = _blocks_and_tail(probs, supports)
    tail_ids = choose(tail.view(len(probs), -1)[:, : probs.shape[-1]], keys)
    places = torch.tensor(tail_ids, device=probs.device)[:, None]  # [n, 1]
    return RowMeasures(
        _on_support(probs, supports),
        tail.sum(dim=-1, dtype=torch.float64).sum(dim=-1).tolist(),
        probs.gather(1, places)[:, 0].tolist(),
        tail_ids,
        argmax_in_blocks(blocks).tolist(),
    )


def _blocks_and_tail(
    probs: torch.Tensor, supports: FlatSupports
) -> tuple[torch.Tensor, torch.Tensor]:
    """Twice [n, blocks, 256]: all of the rows, and what is outside their supports."""
    blocks = in_blocks(probs, 0.0)
    tail = blocks.clone()
    tail.view(len(probs), -1)[supports.rows, supports.token_ids] = 0
    return blocks, tail


def _on_support(probs: torch.Tensor, supports: FlatSupports) -> Probabilities:
    return as_probabilities(probs[supports.rows, supports.token_ids].cpu().numpy())


def _shape_alike(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor | None:
    # One logit that is not a number spoils a whole softmax, and wins every maximum.
    if params.is_greedy:
        greedy_ids = argmax_in_blocks(in_blocks(logits, -torch.inf))[:, None]  # [n, 1]
        if not bool(logits.gather(1, greedy_ids).isfinite().all()):
            return None
        return torch.zeros_like(logits).scatter_(1, greedy_ids, 1.0)
    # [n, V]; the largest is 0, so that a temperature near 0 cannot overflow.
    scores = logits - logits.amax(dim=-1, keepdim=True)
    probs = scores.div_(max(params.temperature, _MIN_TEMPERATURE)).softmax(dim=-1)
    if bool(probs[:, :1].isnan().any()):
        return None
    if params.top_k or params.top_p < 1 or params.min_p:
        return cut(probs, params)
    return probs


def cut(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """What all of top-k, top-p and min-p keep, normalised."""
    least = params.min_p * probs.amax(dim=-1, keepdim=True)  # [n, 1]
    if params.top_k:
        least = least.maximum(_least_of_top_k(probs, params))
    elif params.top_p < 1:
        least = least.maximum(_least_of_nucleus(probs, params.top_p))
    kept = probs.where(probs >= least, 0.0)
    # In blocks, since torch sums one long row in parts, on as many threads as there are.
    return kept.div_(in_blocks(kept, 0.0).sum(dim=-1).sum(dim=-1, keepdim=True))


def _least_of_top_k(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """[n, 1]: the least probability that top-k and then top-p keep."""
    top_probs = probs.topk(min(params.top_k, probs.shape[-1]))[0]  # [n, k], largest first
    least = top_probs[:, -1:]
    if params.top_p == 1:
        return least
    # What top-k keeps is the whole for top-p: the k, and whatever is as likely as the last of them.
    num_equals = (probs >= least).sum(dim=-1, keepdim=True) - top_probs.shape[-1]
    quanta = _in_quanta(top_probs)
    whole = quanta.sum(dim=-1, keepdim=True) + num_equals * quanta[:, -1:]
    return _first_to_reach(params.top_p * whole, top_probs, quanta.cumsum(dim=-1))


def _least_of_nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """[n, 1]: the least probability that top-p keeps of a whole that sums to 1."""
    mass = torch.full_like(probs[:, :1], top_p * _NUM_QUANTA, dtype=torch.float64)
    for size in _NUCLEUS_SIZES:
        if size < probs.shape[-1]:
            top_probs = probs.topk(size)[0]  # [n, size], largest first
            reached = _in_quanta(top_probs).cumsum(dim=-1)
            if bool((reached[:, -1:] >= mass).all()):
                return _first_to_reach(mass, top_probs, reached)
    top_probs = probs.sort(dim=-1, descending=True)[0]
    return _first_to_reach(mass, top_probs, _in_quanta(top_probs).cumsum(dim=-1))


def _first_to_reach(
    mass: torch.Tensor, top_probs: torch.Tensor, reached: torch.Tensor
) -> torch.Tensor:
    """[n, 1], [n, m], [n, m] -> [n, 1]: the probability with which the sum of those before and of
    itself reaches the mass; the last one if none does, for want of what rounding took.
    """
    place = (reached < mass).sum(dim=-1, keepdim=True)
    return top_probs.gather(1, place.clamp(max=top_probs.shape[-1] - 1))


def _in_quanta(probs: torch.Tensor) -> torch.Tensor:
    """Whole numbers in float64: sums of up to all of a row are exact, so that no order of summing
    and no number of tokens looked at makes a difference. Rounding down loses nothing of float32
    above 2**-29, and less than 2**-52 below.
    """
    return (probs.double() * _NUM_QUANTA).floor_()
