"""Whether an answer of the target tier can be evidence of the round that was asked.

Everything that is done with evidence later relies on what is checked here: judges index it by the
draft, tokens go to the client, hidden states go to the draft tier. What passes may still be untrue,
but it is a distribution over the vocabulary and one token for each position.
"""

import math
from collections.abc import Sequence

import numpy as np

from forethought.errors import TierProtocolError
from forethought.sampling.types import Evidence, PositionEvidence, PositionLogprobs
from forethought.tier import DraftToVerify, EvidenceRound, ModelInfo, VerifyRound

TOLERANCE = 1e-3
"""By which a distribution's sum may miss 1. The probabilities of a coupled session are float32 that
nobody normalised, and so are their sums over a vocabulary."""

_NO_TAIL = 1e-6
"""A tail of less than this may be rounding, and its token may have a probability of 0."""

_NO_GUESS = DraftToVerify(0, ())
"""What the position after the last guess is asked for."""


def check_distribution(probs: Sequence[float], tail_mass: float) -> None:
    """Raises TierProtocolError where these are weights of no distribution."""
    # A comparison with NaN is false, so this finds those too.
    if not (min(probs, default=0) >= 0 <= tail_mass and 0 < sum(probs) + tail_mass < math.inf):
        raise TierProtocolError("target probabilities that are no distribution")


def check_evidence(
    answer: EvidenceRound, request: VerifyRound, model: ModelInfo, *, is_greedy: bool = False
) -> None:
    """Raises TierProtocolError where `answer` cannot be the answer of `model` to `request`.

    Args:
        answer: whose distributions have passed `check_distribution`.
        request: what was asked.
        model: of the target tier.
        is_greedy: whether the session is at temperature 0, where one token has all probability.
    """
    if (answer.round, answer.position) != (request.round, request.position):
        raise TierProtocolError("the target tier answered another round")
    positions = answer.evidence.positions
    if len(positions) != len(request.drafts) + 1:
        raise TierProtocolError(
            f"evidence for {len(positions)} positions where {len(request.drafts) + 1} were asked"
        )
    for asked, entry in zip((*request.drafts, _NO_GUESS), positions, strict=True):
        _check_entry(asked.support_token_ids, entry, model.vocab_size)
        if is_greedy and max(*entry.target_probs, entry.tail_mass, 0) < 1 - TOLERANCE:
            raise TierProtocolError("target probabilities that are not those of temperature 0")
        if entry.logprobs is not None or request.num_logprobs is not None:
            _check_logprobs(entry, request.num_logprobs, model.vocab_size)
    _check_hidden_states(answer.evidence, request, model)


def _check_entry(support: Sequence[int], entry: PositionEvidence, vocab_size: int) -> None:
    probs, tail_mass, tail_prob = entry.target_probs, entry.tail_mass, entry.tail_token_prob
    if len(probs) != len(support):
        raise TierProtocolError("evidence does not cover the support of its draft")
    # Without `probs.sum`, which takes twice as long.
    total = float(np.add.reduce(probs)) + tail_mass if support else tail_mass
    if not abs(total - 1) <= TOLERANCE:
        raise TierProtocolError("target probabilities that do not sum to 1")
    if not (entry.tail_token_id < vocab_size and entry.greedy_token_id < vocab_size):
        raise TierProtocolError("evidence names a token that the target does not have")
    if not 0 <= tail_prob <= tail_mass + TOLERANCE:
        raise TierProtocolError("a tail token that is likelier than the whole tail")
    if tail_mass > _NO_TAIL and (not tail_prob or entry.tail_token_id in support):
        raise TierProtocolError("a tail token that cannot be drawn from the tail")


def _check_logprobs(entry: PositionEvidence, num_wanted: int | None, vocab_size: int) -> None:
    logprobs = entry.logprobs
    if logprobs is None or num_wanted is None:
        raise TierProtocolError("log-probabilities that were not asked for, or not given")
    num_top = min(num_wanted, vocab_size)
    top_ids, top = logprobs.top_token_ids, list(logprobs.top_logprobs)
    if (
        len(logprobs.support_logprobs) != len(entry.target_probs)
        or not len(top_ids) == len(set(top_ids)) == len(top) == num_top
        or max(top_ids, default=0) >= vocab_size
        or top != sorted(top, reverse=True)
        or not all(value <= TOLERANCE for value in top)
        or not all(_is_logprob(*each) for each in zip(*_by_prob(entry, logprobs), strict=True))
    ):
        raise TierProtocolError("log-probabilities that are none of this position")


def _by_prob(
    entry: PositionEvidence, logprobs: PositionLogprobs
) -> tuple[Sequence[float], Sequence[float]]:
    """Probabilities of tokens, which may be shaped, and the logarithms of unshaped ones."""
    tail_prob = entry.tail_token_prob if entry.tail_mass > _NO_TAIL else 0.0
    return (
        (*entry.target_probs, tail_prob),
        (*logprobs.support_logprobs, logprobs.tail_token_logprob),
    )


def _is_logprob(prob: float, logprob: float) -> bool:
    """Shaping makes no token possible that was not. What is said of an impossible one means
    nothing."""
    return not prob or -math.inf < logprob <= TOLERANCE


def _check_hidden_states(evidence: Evidence, request: VerifyRound, model: ModelInfo) -> None:
    states = evidence.hidden_states
    if (states is not None) != request.wants_hidden_states:
        raise TierProtocolError("hidden states that were not asked for, or not given")
    if states is None:
        return
    if states.size != model.hidden_size:
        raise TierProtocolError(f"hidden states of {states.size} elements, not {model.hidden_size}")
    if not np.isfinite(states.rows).all():
        raise TierProtocolError("hidden states that are not numbers")
