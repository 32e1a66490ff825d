"""Step 3, rejection sampling (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318).

For each drafted token x, in order:

- *accept* it with probability min(1, p(x) / q(x));
- at the first rejection, draw the *recovered* token from the residual norm((p - q)+) and drop
  the rest of the draft;
- if none was rejected, add the *bonus* token, a sample of p at the next position.

The tokens that result are distributed exactly as if each had been drawn from p, whatever q is.
At temperature 0 p is one-hot, and the same rule keeps exactly the greedy tokens.

q is zero outside its support, so there the residual is p itself. The target has drawn one token
from that outside with noise of its own, hence its whole distribution never needs to travel: the
residual is a choice among the support's (p - q)+ and, with the weight of the tail, that token.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from forethought.sampling.randomness import Randomness, Stream
from forethought.sampling.tokens import check_fit, support_token, tail_token
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    Outcome,
    OutputToken,
    PositionEvidence,
    TokenOrigin,
)


def judge(draft: Draft, evidence: Evidence, randomness: Randomness, position: int) -> Outcome:
    """Decides a round.

    Args:
        draft: K guesses with their distributions q.
        evidence: p at K + 1 positions.
        randomness: the draws of this round.
        position: committed length, where the first guess stands.

    Returns:
        0 to K accepted tokens, then one recovered or bonus token.

    Raises:
        TierProtocolError: the evidence does not fit the draft.
    """
    check_fit(draft, evidence)
    output: list[OutputToken] = []
    for offset, (drafted, checked) in enumerate(
        zip(draft.tokens, evidence.positions[:-1], strict=True)
    ):
        place = drafted.support_token_ids.index(drafted.token_id)
        q, p = drafted.draft_probs[place], checked.target_probs[place]
        # u < p/q without the division: no epsilon, and q = 0 cannot happen for a drawn token.
        if randomness.uniform(Stream.ACCEPT, position + offset) * q < p:
            output.append(support_token(drafted, checked, place, TokenOrigin.ACCEPTED))
            continue
        u = randomness.uniform(Stream.RESIDUAL, position + offset)
        return Outcome((*output, recover(drafted, checked, residual(drafted, checked), u)))
    return Outcome((*output, tail_token(evidence.positions[-1], TokenOrigin.BONUS)))


def residual(drafted: DraftedToken, checked: PositionEvidence, weight: Any = 1) -> list[Any]:
    """[M + 1] (weight * p - q)+ on the support of q, then for everything outside it together.

    Args:
        drafted: q.
        checked: p.
        weight: of p, from [0, 1]; 1 in plain rejection sampling.
    """
    on_support = np.maximum(weight * checked.target_probs - drafted.draft_probs, 0)
    return [*on_support, weight * checked.tail_mass]


def recover(
    drafted: DraftedToken, checked: PositionEvidence, weights: Sequence[Any], u: float
) -> OutputToken:
    """Draws from the residual, [M + 1] not normalised, with the uniform draw `u` from [0, 1)."""
    if not any(weights):
        # In exact arithmetic a rejection leaves mass here. Rounded, p may lie nowhere above q; then
        # the two are equal but for rounding, and so is the residual's limit to p.
        weights = [*checked.target_probs, checked.tail_mass]
    place = draw_index(weights, u)
    if place == len(drafted.support_token_ids):
        return tail_token(checked, TokenOrigin.RECOVERED)
    return support_token(drafted, checked, place, TokenOrigin.RECOVERED)


def draw_index(weights: Sequence[float], u: float) -> int:
    """An index drawn with probability proportional to its weight, by inversion.

    Args:
        weights: not negative, not all zero; they need not sum to 1.
        u: a uniform draw from [0, 1).

    Returns:
        An index whose weight is above zero, also where sums are rounded.
    """
    threshold = u * sum(weights)
    cumulative: float = 0  # exact for rational weights, as a 0.0 would not be
    last = 0
    for index, weight in enumerate(weights):
        if weight <= 0:
            continue
        cumulative, last = cumulative + weight, index
        if threshold < cumulative:
            return index
    return last
