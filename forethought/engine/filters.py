"""From logits to the distribution that is sampled.

Repetition penalty, temperature, top-k, top-p and min-p, in this order and with the meaning that
transformers gives them (`generation/logits_process.py`). transformers masks logits and takes the
softmax again after each filter. Here it is taken once, and the filters cut probabilities: a cut
never depends on what cutting and renormalising does to all of them alike.

*A row's distribution is a function of that row.* Speculation is exact only if p at a position is
the same whatever was guessed after it, so neither the other rows nor the order in which a sort
leaves equals may have a say. Hence each filter only finds the least probability it keeps, and all
tokens at or above it stay, all of several equals too. (transformers' top-k does the same. Its top-p
keeps as many equals as reach the mass, whichever the sort puts first.) And hence masses are summed
in whole numbers, where the order of a sum does not matter.

Top-p asks for the most likely tokens that together reach a mass. Sorting a whole vocabulary for
that takes 27 ms for [5, 49152]; usually the 64 most likely tokens reach it, which takes 0.5. If the
tokens looked at reach the mass, no other token can belong to the answer, so this is exact.

What is left to torch's own reductions: softmax and maximum give a row the same bits alone and
beside others on the CPU. On an accelerator the kernel, and with it the last bit, may depend on the
shape, as it does in the model's own pass.

On a CPU with the C extension the same is done by `rows.c`, a row at a time. Its softmax may differ
from torch's in the last bits, so both tiers of a deployment should have it, as they should have the
same number format: the text of a seed is then the same, and the distribution is in any case.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch

from forethought.engine import native_rows
from forethought.engine.blocks import argmax_in_blocks, in_blocks
from forethought.engine.sequence import CachedSequence
from forethought.errors import ForethoughtError
from forethought.sampling.params import SamplingParams

_NUCLEUS_SIZES = (64, 1024, 8192)
"""How many tokens are looked at for top-p, one size after the other, before all are sorted."""
_NUM_QUANTA = 2.0**52
"""Of a probability of 1. Float64 holds all whole numbers up to twice as many."""
_MIN_TEMPERATURE = 1e-37
"""Below it one-hot in float32 all the same, but its reciprocal would no longer be a number."""


@dataclass(frozen=True, slots=True)
class ShapedRows:
    """Neighbouring rows that one session wants shaped, and what they follow."""

    num_rows: int
    params: SamplingParams
    contexts: Sequence[Sequence[int] | torch.Tensor] = ()
    """For each row the tokens before it, in any order, to which the repetition penalty applies;
    unused without one. See `row_contexts`."""


def shape_logits(
    logits: torch.Tensor,
    params: SamplingParams,
    contexts: Sequence[Sequence[int] | torch.Tensor] = (),
) -> torch.Tensor:
    """`shape_rows` of a single session."""
    return shape_rows(logits, [ShapedRows(len(logits), params, contexts)])


@torch.inference_mode()
def shape_rows(logits: torch.Tensor, sessions: Sequence[ShapedRows]) -> torch.Tensor:
    """The distributions of the rows of several sessions, each by its own parameters.

    Args:
        logits: [R, V] float32, the rows of the sessions in order; not changed.
        sessions: whose rows they are.

    Returns:
        [R, V] float32; rows sum to 1 up to rounding, or are one-hot where temperature is 0.

    Raises:
        ForethoughtError: a row has logits that are not numbers.
    """
    logits = _penalised(logits, sessions)
    if native_rows.takes(logits):
        params = [session.params for session in sessions for _ in range(session.num_rows)]
        probs = native_rows.shape(logits, params)
    else:
        probs = _shape_in_torch(logits, sessions)
    if probs is None:
        raise ForethoughtError("the model computed logits that are not numbers")
    return probs


def row_contexts(
    params: SamplingParams,
    sequence: CachedSequence,
    draft_token_ids: Sequence[int],
    num_rows: int,
) -> list[torch.Tensor]:
    """What the last `num_rows` of the K + 1 rows that score K guesses follow; empty if `params`
    has no use for it.

    Row i follows the committed tokens, each of them here once, and the first i guesses.
    """
    if params.repetition_penalty == 1:
        return []
    seen = sequence.seen_token_ids()  # [m]
    guesses = torch.tensor(draft_token_ids, dtype=torch.long, device=seen.device)  # [K]
    num_guesses = range(len(draft_token_ids) + 1)[-num_rows:]
    return [torch.cat((seen, guesses[:num])) for num in num_guesses]


def _penalised(logits: torch.Tensor, sessions: Sequence[ShapedRows]) -> torch.Tensor:
    if all(session.params.repetition_penalty == 1 for session in sessions):
        return logits
    logits = logits.clone()
    own_rows = logits.split([session.num_rows for session in sessions])
    for session, rows in zip(sessions, own_rows, strict=True):
        penalty = session.params.repetition_penalty
        if penalty == 1:
            continue
        for row, context in zip(rows, session.contexts, strict=True):
            token_ids = torch.as_tensor(context, dtype=torch.long, device=row.device)  # [tokens]
            seen = row.index_select(0, token_ids)
            row.scatter_(0, token_ids, torch.where(seen < 0, seen * penalty, seen / penalty))
    return logits


def _shape_in_torch(logits: torch.Tensor, sessions: Sequence[ShapedRows]) -> torch.Tensor | None:
    """Sessions that are shaped alike are shaped together, for the price of one.

    None if a row has logits that are not numbers.
    """
    alike: dict[tuple[float, ...], list[int]] = {}
    for index, session in enumerate(sessions):
        alike.setdefault(session.params.shape, []).append(index)
    if len(alike) == 1:
        return _shape_alike(logits, sessions[0].params)
    probs = torch.empty_like(logits)
    bounds = [0, *accumulate(session.num_rows for session in sessions)]
    for indices in alike.values():
        rows = [row for index in indices for row in range(bounds[index], bounds[index + 1])]
        shaped = _shape_alike(logits[rows], sessions[indices[0]].params)
        if shaped is None:
            return None
        probs[rows] = shaped
    return probs


def _shape_alike(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor | None:
    # One logit that is not a number spoils a whole softmax, and wins every maximum.
    if params.is_greedy:
        greedy_ids = argmax_in_blocks(in_blocks(logits, -torch.inf))[:, None]  # [n, 1]
        if bool(logits.gather(1, greedy_ids).isnan().any()):
            return None
        return torch.zeros_like(logits).scatter_(1, greedy_ids, 1.0)
    # [n, V]; the largest is 0, so that a temperature near 0 cannot overflow.
    scores = logits - logits.amax(dim=-1, keepdim=True)
    probs = scores.div_(max(params.temperature, _MIN_TEMPERATURE)).softmax(dim=-1)
    if bool(probs[:, :1].isnan().any()):
        return None
    if params.top_k or params.top_p < 1 or params.min_p:
        return _cut(probs, params)
    return probs


def _cut(probs: torch.Tensor, params: SamplingParams) -> torch.Tensor:
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

