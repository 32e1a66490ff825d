"""What the draft tier answered against what it was asked.

A draft that the target would refuse, and with it the whole request, is refused before it goes
there.
"""

from forethought.errors import TierProtocolError
from forethought.sampling.types import VerificationMode
from forethought.tier import DraftRound, ModelInfo, SpeculateRound


def check_draft(
    answer: DraftRound, request: SpeculateRound, mode: VerificationMode, target: ModelInfo | None
) -> None:
    """Checks all that decoding the message alone could not.

    Args:
        answer: of the draft tier.
        request: that it answers.
        mode: of the session.
        target: whose tokens are guessed; None is not checked.

    Raises:
        TierProtocolError: the draft is not one for this round.
    """
    if (answer.round, answer.position) != (request.round, request.position):
        raise TierProtocolError("the draft tier answered another round")
    if len(answer.draft) > request.num_speculative_tokens:
        raise TierProtocolError("the draft tier drafted more tokens than were asked for")
    if mode is not VerificationMode.COUPLED and not all(
        len(token.draft_probs) for token in answer.draft.tokens
    ):
        raise TierProtocolError("the draft tier does not say how likely its guesses were")
    if target is not None and any(
        max(token.support_token_ids) >= target.vocab_size for token in answer.draft.tokens
    ):
        raise TierProtocolError("the draft tier drafted tokens that the target does not have")
