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

On a CPU `rows.c` does it, a row at a time; elsewhere, and without the C extension, `torch_rows.py`.
What they compute may differ in the last bits, as what the two builds make of a pass does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.rows import native_rows, torch_rows
from forethought.errors import ReplicaFailedError
from forethought.sampling.params import SamplingParams


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
        ReplicaFailedError: a row has a logit that is not a number or is infinite, or it has minus
            infinity alone. Single tokens may have minus infinity: they are not possible.
    """
    logits = _penalised(logits, sessions)
    params = [session.params for session in sessions for _ in range(session.num_rows)]
    shape = native_rows.shape if native_rows.takes(logits) else torch_rows.shape
    probs = shape(logits, params)
    if probs is None:
        raise ReplicaFailedError("the model computed logits that are not numbers")
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
    own_rows = torch.split(logits, [session.num_rows for session in sessions])
    for session, rows in zip(sessions, own_rows, strict=True):
        penalty = session.params.repetition_penalty
        if penalty == 1:
            continue
        for row, context in zip(rows, session.contexts, strict=True):
            token_ids = torch.as_tensor(context, dtype=torch.long, device=row.device)  # [tokens]
            seen = row.index_select(0, token_ids)
            row.scatter_(0, token_ids, torch.where(seen < 0, seen * penalty, seen / penalty))
    return logits
