"""What all judges share: evidence that fits its draft, and tokens for the output."""

from forethought.errors import TierProtocolError
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    Evidence,
    OutputToken,
    PositionEvidence,
    TokenOrigin,
)


def check_fit(draft: Draft, evidence: Evidence) -> None:
    """Refuses evidence that is not about the draft.

    Raises:
        TierProtocolError: other positions than those asked for, or not all of a support.
    """
    if len(evidence.positions) != len(draft) + 1:
        raise TierProtocolError(
            f"evidence for {len(evidence.positions)} positions where {len(draft) + 1} were asked"
        )
    for drafted, checked in zip(draft.tokens, evidence.positions, strict=False):
        if len(checked.target_probs) != len(drafted.support_token_ids):
            raise TierProtocolError("evidence does not cover the support of its draft")


def support_token(
    drafted: DraftedToken, checked: PositionEvidence, place: int, origin: TokenOrigin
) -> OutputToken:
    """The token at `place` of the support."""
    logprobs = checked.logprobs
    return OutputToken(
        token_id=drafted.support_token_ids[place],
        origin=origin,
        draft_prob=drafted.draft_prob if origin is TokenOrigin.ACCEPTED else None,
        target_prob=float(checked.target_probs[place]),
        logprob=logprobs.support_logprobs[place] if logprobs else None,
        top_logprobs=_top_logprobs(checked),
    )


def tail_token(checked: PositionEvidence, origin: TokenOrigin) -> OutputToken:
    """The token that the target drew outside the support."""
    return OutputToken(
        token_id=checked.tail_token_id,
        origin=origin,
        draft_prob=None,
        target_prob=checked.tail_token_prob,
        logprob=checked.logprobs.tail_token_logprob if checked.logprobs else None,
        top_logprobs=_top_logprobs(checked),
    )


def _top_logprobs(checked: PositionEvidence) -> tuple[tuple[int, float], ...]:
    if checked.logprobs is None:
        return ()
    return tuple(zip(checked.logprobs.top_token_ids, checked.logprobs.top_logprobs, strict=True))
