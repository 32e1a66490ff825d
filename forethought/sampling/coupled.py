"""Step 3 with noise that draft and target share (Daliri et al., arXiv 2408.07978).

At every position each token x of the vocabulary has a number E(x), exponentially distributed and
known to all tiers: a pure function of seed, position and token. The token with the least
E(x) / p(x) is a sample of p (the same as the largest log p + Gumbel noise). The draft guesses the
token with the least E(x) / q(x). Where q is near p, both usually choose the same.

The output is the target's choice, position by position, and a guess stays if it is that choice. So
the text depends on prompt, parameters, seed and target alone: the draft, K, retries and failures
decide only how fast it comes.

The evidence is the same as in the other modes, p of the guess and one token from outside the
support, here the best of the outside. Which of the two wins is decided here, by the same division
of the same numbers that the target would do. Only logarithms may differ in their last bit between
one machine and another, which matters where two tokens' scores are the same to 15 digits.
"""

import math

from forethought.sampling.randomness import Randomness
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


def judge_coupled(
    draft: Draft, evidence: Evidence, randomness: Randomness, position: int
) -> Outcome:
    """Decides a round; takes, returns and raises what `rejection.judge` does.

    Supports may be of any size; none is needed beyond the guess.
    """
    check_fit(draft, evidence)
    output: list[OutputToken] = []
    for offset, (drafted, checked) in enumerate(
        zip(draft.tokens, evidence.positions[:-1], strict=True)
    ):
        chosen = _choice(drafted, checked, randomness, position + offset)
        output.append(chosen)
        if chosen.origin is not TokenOrigin.ACCEPTED:
            return Outcome(tuple(output))
    return Outcome((*output, tail_token(evidence.positions[-1], TokenOrigin.BONUS)))


def _choice(
    drafted: DraftedToken, checked: PositionEvidence, randomness: Randomness, position: int
) -> OutputToken:
    """The token with the least E / p: one of the support, or the tail token."""
    best = len(drafted.support_token_ids)  # the tail token, unless it is beaten
    noise = randomness.exponential(position, checked.tail_token_id)
    least = _score(noise, checked.tail_token_prob)
    for place, token_id in enumerate(drafted.support_token_ids):
        score = _score(randomness.exponential(position, token_id), checked.target_probs[place])
        if score < least:
            best, least = place, score
    if best == len(drafted.support_token_ids):
        return tail_token(checked, TokenOrigin.RECOVERED)
    is_guess = drafted.support_token_ids[best] == drafted.token_id
    origin = TokenOrigin.ACCEPTED if is_guess else TokenOrigin.RECOVERED
    return support_token(drafted, checked, best, origin)


def _score(noise: float, prob: float) -> float:
    """E / p. A token without probability never wins."""
    return noise / float(prob) if prob > 0 else math.inf
