"""Log-probabilities of a prompt: the prompt is verified as its own draft.

A round guesses the next tokens of the prompt, and commits them whatever the target says of them:
it measures as many positions as any round, so no tier has to know of it. The session begins with
the first token alone. Nothing but that token is taken from a cache, since the logits before each
other token are what is asked for.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace

from forethought.sampling.types import Draft, VerificationMode, certain_guess
from orchestrator.loop.committed_tokens import CommittedTokens
from orchestrator.loop.decode_loop import Verifier
from orchestrator.loop.session import Session


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token of the prompt, as the model sees it behind those before it."""

    token_id: int
    logprob: float  # natural logarithm of the model's own probability
    top_logprobs: tuple[tuple[int, float], ...]  # the most likely tokens at its place, best first


async def score_prompt(
    session: Session, rest: Sequence[int], verifier: Verifier, num_guesses: int
) -> AsyncGenerator[list[ScoredToken]]:
    """Scores the tokens of a prompt, round by round.

    Args:
        session: of the prompt's first token.
        rest: the tokens behind it.
        verifier: whose evidence brings log-probabilities.
        num_guesses: most tokens in a round.

    Raises:
        TierUnavailableError: the target tier is lost.
    """
    for start in range(0, len(rest), num_guesses):
        token_ids = rest[start : start + num_guesses]
        guesses = tuple(certain_guess(each, VerificationMode.REJECTION) for each in token_ids)
        measured = await verifier.verify(session, Draft(guesses))
        scored = []
        for token_id, position in zip(token_ids, measured.evidence.positions, strict=False):
            logprobs = position.logprobs
            assert logprobs is not None, "the verifier checks that they are there"
            top = zip(logprobs.top_token_ids, logprobs.top_logprobs, strict=True)
            scored.append(ScoredToken(token_id, logprobs.support_logprobs[0], tuple(top)))
        yield scored
        session = replace(
            session,
            token_ids=CommittedTokens.of(session.token_ids).followed_by(token_ids),
            round=session.round + 1,
        )
