"""Broken twins of block verification, in the shape of `forethought.sampling.block.judge_block`.

What `twins.py` says of those of rejection sampling holds here: each has one mistake, and the tests
that claim exactness must reject it. Harmless where K = 1 and the mistake is about the weight of
longer beginnings. Draws keyed by position only are no judge's mistake: `Stack.not_by_round` of
`enumeration.py` has them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forethought.sampling.randomness import Randomness, Stream
from forethought.sampling.rejection import recover, residual
from forethought.sampling.tokens import support_token, tail_token
from forethought.sampling.types import Draft, Evidence, Outcome, TokenOrigin
from tests.exactness.twins import Judge


@dataclass(frozen=True, slots=True)
class Rules:
    """Block verification as it should be; a twin replaces one of them."""

    next_weight: Callable[[Any, Any, Any], Any] = lambda weight, p, q: (
        weight * p / q if weight * p < q else 1
    )
    """Of the weight so far, and p and q of the next guess."""
    is_kept: Callable[[Any, Any, Any], bool] = lambda u, mass, weight: (
        u * (1 - weight + mass) < mass
    )
    """Of a draw, the mass of the residual and the weight; for all beginnings but the whole."""
    residual_weight: Callable[[Any], Any] = lambda weight: weight
    """What p is multiplied with in the residual."""
    choose: Callable[[list[int]], int] = max
    """Which of the lengths that are kept counts; 0 always is among them."""


def judge_block_by(rules: Rules) -> Judge:
    """Block verification once more, plainly: all weights, then all tests, then the choice."""

    def twin(draft: Draft, evidence: Evidence, randomness: Randomness, position: int) -> Outcome:
        places = [token.support_token_ids.index(token.token_id) for token in draft.tokens]
        pairs = list(zip(draft.tokens, evidence.positions, strict=False))
        weights: list[Any] = [1]
        for place, (drafted, checked) in zip(places, pairs, strict=True):
            p, q = checked.target_probs[place], drafted.draft_probs[place]
            weights.append(rules.next_weight(weights[-1], p, q))
        residuals = [
            residual(drafted, checked, rules.residual_weight(weight))
            for weight, (drafted, checked) in zip(weights, pairs, strict=False)
        ]
        kept = [0]
        for length in range(1, len(draft) + 1):
            u = randomness.uniform(Stream.ACCEPT, position + length - 1)
            if length == len(draft):
                is_kept = u < weights[length]
            else:
                is_kept = rules.is_kept(u, sum(residuals[length]), weights[length])
            if is_kept:
                kept.append(length)
        u = randomness.uniform(Stream.RESIDUAL, position + rules.choose(kept))
        return _finish(draft, evidence, rules.choose(kept), residuals, u)

    return twin


faithful = judge_block_by(Rules())
"""No mistake: equal to the real judge."""

uncapped_weight = judge_block_by(Rules(next_weight=lambda weight, p, q: weight * p / q))
"""Without the min(1, ...): a guess that q underrates pays for later ones that it overrates."""

plain_residual = judge_block_by(Rules(residual_weight=lambda weight: 1))
"""The residual (p - q)+ of rejection sampling, which knows nothing of the weight."""

kept_where_anything_is_left = judge_block_by(Rules(is_kept=lambda u, mass, weight: u * mass < mass))
"""r / r for r / (r + 1 - w)."""

shortest_kept = judge_block_by(Rules(choose=lambda kept: kept[1] if kept[1:] else 0))
"""The first beginning that is kept instead of the longest."""


def guess_by_guess(
    draft: Draft, evidence: Evidence, randomness: Randomness, position: int
) -> Outcome:
    """The accept test of rejection sampling with the residual of blocks."""
    weight: Any = 1
    residuals = []
    for offset, drafted in enumerate(draft.tokens):
        checked = evidence.positions[offset]
        place = drafted.support_token_ids.index(drafted.token_id)
        p, q = checked.target_probs[place], drafted.draft_probs[place]
        residuals.append(residual(drafted, checked, weight))
        weight = min(1, weight * p / q)
        if not randomness.uniform(Stream.ACCEPT, position + offset) * q < p:
            u = randomness.uniform(Stream.RESIDUAL, position + offset)
            return _finish(draft, evidence, offset, residuals, u)
    return _finish(draft, evidence, len(draft), residuals, u=0)


def _finish(
    draft: Draft, evidence: Evidence, num_accepted: int, residuals: list[list[Any]], u: Any
) -> Outcome:
    """Accepts so many guesses, and adds the token that follows them, chosen by `u`."""
    accepted = [
        support_token(
            drafted,
            evidence.positions[index],
            drafted.support_token_ids.index(drafted.token_id),
            TokenOrigin.ACCEPTED,
        )
        for index, drafted in enumerate(draft.tokens[:num_accepted])
    ]
    checked = evidence.positions[num_accepted]
    if num_accepted == len(draft):
        return Outcome((*accepted, tail_token(checked, TokenOrigin.BONUS)))
    last = recover(draft.tokens[num_accepted], checked, residuals[num_accepted], u)
    return Outcome((*accepted, last))
