"""Broken twins: rejection sampling with one mistake each, as real engines have made them.

A test that claims exactness must reject every one of them, else it would not have noticed the
mistake in the real thing. They come in the shapes of the seams, so that they can be put into a
running stack as well as into an enumeration:

- a `Judge` stands where `forethought.sampling.rejection.judge` stands;
- a change of a `Draft` belongs where a draft tier reports its draft;
- a change of a `Randomness` belongs where a tier asks for its draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from forethought.sampling.randomness import Randomness, Stream
from forethought.sampling.rejection import draw_index, judge
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    Outcome,
    OutputToken,
    PositionEvidence,
    Probabilities,
    TokenOrigin,
)

Judge = Callable[[Draft, Evidence, Randomness, int], Outcome]
AcceptRule = Callable[[Any, Any, Any], bool]  # of u, p and q
ResidualRule = Callable[[Probabilities, Probabilities], Probabilities]  # of p and q, [M] -> [M]


def is_accepted(u: float, p: float, q: float) -> bool:
    """The accept test as it should be."""
    return u * q < p


def clipped_residual(p: Probabilities, q: Probabilities) -> Probabilities:
    """The residual on the support as it should be, not normalised."""
    return np.maximum(p - q, 0)


def judge_by(accepts: AcceptRule = is_accepted, residual: ResidualRule = clipped_residual) -> Judge:
    """Rejection sampling once more, plainly, with the two rules open to mistakes.

    With the rules as they should be it is the real judge, which a test asserts. So a twin made
    here differs from the real thing in its rule and in nothing else.
    """

    def twin(draft: Draft, evidence: Evidence, randomness: Randomness, position: int) -> Outcome:
        output: list[OutputToken] = []
        for offset, drafted in enumerate(draft.tokens):
            checked = evidence.positions[offset]
            place = drafted.support_token_ids.index(drafted.token_id)
            p, q = checked.target_probs, drafted.draft_probs
            u = randomness.uniform(Stream.ACCEPT, position + offset)
            if accepts(u, p[place], q[place]):
                output.append(_token(drafted, checked, place, TokenOrigin.ACCEPTED))
                continue
            weights = [*residual(p, q), checked.tail_mass]
            weights = weights if any(weights) else [*p, checked.tail_mass]
            chosen = draw_index(weights, randomness.uniform(Stream.RESIDUAL, position + offset))
            return Outcome((*output, _token(drafted, checked, chosen, TokenOrigin.RECOVERED)))
        nothing = DraftedToken(-1, (), np.array([]))
        return Outcome((*output, _token(nothing, evidence.positions[-1], 0, TokenOrigin.BONUS)))

    return twin


faithful = judge_by()
"""No mistake: equal to the real judge."""

always_accept = judge_by(accepts=lambda u, p, q: True)
"""The output is the draft's, not the target's."""

swapped_accept_test = judge_by(accepts=lambda u, p, q: u * p < q)
"""Accepts with probability min(1, q/p): keeps what the draft overrates."""

unclipped_residual = judge_by(residual=lambda p, q: p - q)
"""Forgets the (…)+: the weights sum to zero, so the first positive one always wins."""


def bonus_from_last_drafted_position(
    draft: Draft, evidence: Evidence, randomness: Randomness, position: int
) -> Outcome:
    """Draws the bonus token from p one position too early. Harmless for K = 0."""
    outcome = judge(draft, evidence, randomness, position)
    if not draft.tokens or outcome.final.origin is not TokenOrigin.BONUS:
        return outcome
    drafted, checked = draft.tokens[-1], evidence.positions[-2]
    weights = [*checked.target_probs, checked.tail_mass]
    place = draw_index(weights, randomness.uniform(Stream.RESIDUAL, position + len(draft)))
    return Outcome((*outcome.tokens[:-1], _token(drafted, checked, place, TokenOrigin.BONUS)))


@dataclass(frozen=True, slots=True)
class SharedNoise:
    """A `Randomness` that answers one stream with the draws of another."""

    randomness: Randomness
    stream: Stream
    instead: Stream

    def uniform(self, stream: Stream, position: int) -> float:
        asked = self.instead if stream == self.stream else stream
        return self.randomness.uniform(asked, position)


def residual_noise_shared_with_draft(
    draft: Draft, evidence: Evidence, randomness: Randomness, position: int
) -> Outcome:
    """Draws the recovered token with the noise that chose the rejected one.

    In a running stack it shows only if `randomness` has the seed and the round that the draft
    tier drew with. Harmless where q or the residual is one-hot.
    """
    shared = SharedNoise(randomness, Stream.RESIDUAL, Stream.DRAFT)
    return judge(draft, evidence, shared, position)


def residual_noise_shared_with_tail(
    draft: Draft, evidence: Evidence, randomness: Randomness, position: int
) -> Outcome:
    """Draws the recovered token with the noise that chose the tail token.

    As the twin before it needs the seed and the round of the target tier. Harmless unless two
    tokens outside the support have mass and the residual has some inside.
    """
    shared = SharedNoise(randomness, Stream.RESIDUAL, Stream.TAIL)
    return judge(draft, evidence, shared, position)


def tail_noise_shared_with_draft(randomness: Randomness) -> Randomness:
    """For the target tier: draws the tail token with the noise that chose the guess.

    Harmless unless q is random and two tokens outside its support have mass: that takes a
    vocabulary of four.
    """
    return SharedNoise(randomness, Stream.TAIL, Stream.DRAFT)


def untruncated(draft: Draft, kept_masses: Sequence[Any]) -> Draft:
    """Reports q as it was before truncation, though the guesses were drawn after it.

    Args:
        draft: an honest draft.
        kept_masses: [K], the mass that each truncation kept, in (0, 1]. Harmless where it is 1.
    """
    return Draft(
        tuple(
            replace(drafted, draft_probs=drafted.draft_probs * kept_mass)
            for drafted, kept_mass in zip(draft.tokens, kept_masses, strict=True)
        )
    )


def _token(
    drafted: DraftedToken, checked: PositionEvidence, place: int, origin: TokenOrigin
) -> OutputToken:
    """The token at `place` of the support, or beyond the support's end the tail token."""
    if place == len(drafted.support_token_ids):
        return OutputToken(checked.tail_token_id, origin, None, checked.tail_token_prob)
    q = float(drafted.draft_probs[place]) if origin is TokenOrigin.ACCEPTED else None
    token_id = drafted.support_token_ids[place]
    return OutputToken(token_id, origin, q, float(checked.target_probs[place]))
