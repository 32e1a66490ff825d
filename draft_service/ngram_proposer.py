"""Drafts by looking the text up in itself (prompt lookup decoding, Saxena 2023).

The longest run of tokens at the end that has occurred before, in the prompt or in the output, is
likely to go on as it did then. No model, no training; it pays where the output repeats the input:
code edits, summaries, extraction, agents.

q is one-hot: the guess is certain, and rejection sampling accepts it with probability p.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forethought.errors import CachePositionMismatchError
from forethought.sampling.types import Draft, DraftedToken, as_probabilities
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound

_CERTAIN = as_probabilities([1.0])


@dataclass(frozen=True, slots=True)
class NgramProposer:
    """Drafts by lookup of runs of at least `min_match` tokens."""

    info: ModelInfo
    min_match: int
    max_match: int  # longer runs count as this long
    name: str = "ngram"

    def open(self, opening: SessionOpen) -> "NgramSession":
        """A session with its own token log."""
        return NgramSession(self, opening.token_ids)


class NgramSession:
    """The token log of one session."""

    num_cached_tokens = 0

    def __init__(self, proposer: NgramProposer, token_ids: Sequence[int]) -> None:
        self._proposer = proposer
        self._log = array("I", token_ids)

    def prefill(self, max_tokens: int) -> bool:  # noqa: ARG002
        """Nothing to compute."""
        return False

    def release(self) -> None:
        """Nothing to free."""

    def propose(self, request: SpeculateRound) -> Draft:
        start = request.position - len(request.committed_token_ids)
        if not 0 <= start <= len(self._log):
            raise CachePositionMismatchError(
                f"tokens from {start} on, where {len(self._log)} are known"
            )
        del self._log[start:]
        self._log.extend(request.committed_token_ids)
        guesses = continuation(
            np.array(self._log),
            request.num_speculative_tokens,
            self._proposer.min_match,
            self._proposer.max_match,
        )
        return Draft(tuple(DraftedToken(token_id, [token_id], _CERTAIN) for token_id in guesses))


def continuation(
    tokens: np.ndarray[tuple[int], np.dtype[np.uint32]],
    num_tokens: int,
    min_match: int,
    max_match: int,
) -> list[int]:
    """What followed the latest earlier occurrence of the longest suffix that has one.

    Args:
        tokens: [n], the prompt and output so far.
        num_tokens: how many to return.
        min_match: shortest suffix to look for, tokens.
        max_match: longest suffix to look for, tokens.

    Returns:
        `num_tokens` token ids, or none where no suffix has occurred before. An occurrence that
        overlaps the end is a period, which goes on round and round.
    """
    if not num_tokens or not len(tokens):
        return []
    # Whether the last token occurred at [0, n - 2], then whether the last two ended at [1, n - 2],
    # and so on. Masks and not indices: in a text of one token all places match to the end.
    matched = tokens[:-1] == tokens[-1]  # [n - length]
    length = 1
    while length < min(max_match, len(tokens) - 1):
        longer = matched[1:] & (tokens[: -1 - length] == tokens[-1 - length])
        if not longer.any():
            break
        matched, length = longer, length + 1
    if length < min_match or not matched.any():
        return []
    period = 1 + int(matched[::-1].argmax())
    following = tokens[-period:][:num_tokens].tolist()
    return [following[index % period] for index in range(num_tokens)]
