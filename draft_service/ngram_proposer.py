"""Drafts by looking the text up in itself (prompt lookup decoding, Saxena 2023).

The longest run of tokens at the end that has occurred before, in the prompt or in the output, is
likely to go on as it did then. No model, no training; it pays where the output repeats the input:
code edits, summaries, extraction, agents.

q is one-hot: the guess is certain, and rejection sampling accepts it with probability p.
"""

import asyncio
from array import array
from collections.abc import Sequence
from time import perf_counter_ns

import numpy as np

from forethought.errors import CachePositionMismatchError, OverloadedError
from forethought.sampling.types import Draft, DraftedToken, as_probabilities
from forethought.tier import ModelInfo, RoundTimings, SessionOpen, SpeculateRound, TierLoad

_CERTAIN = as_probabilities([1.0])
_LONG_TEXT = 65_536  # tokens; a shorter one is searched faster than another thread takes it over


class NgramProposer:
    """Drafts by lookup.

    Args:
        info: the vocabulary, and the longest text to search.
        min_match: shortest run of tokens to look up.
        max_match: longest run; longer ones count as this long.
        max_sessions: most sessions open at a time.
    """

    name = "ngram"

    def __init__(
        self, info: ModelInfo, min_match: int, max_match: int, max_sessions: int = 256
    ) -> None:
        self.info = info
        self.min_match = min_match
        self.max_match = max_match
        self._max_sessions = max_sessions
        self._sessions: set[NgramSession] = set()

    def open(self, opening: SessionOpen) -> "NgramSession":
        if len(self._sessions) >= self._max_sessions:
            raise OverloadedError(
                f"{self._max_sessions} sessions are open, the most this tier takes"
            )
        session = NgramSession(self, opening.token_ids)
        self._sessions.add(session)
        return session

    def load(self) -> TierLoad:
        return TierLoad(len(self._sessions), num_cached_tokens=0, num_queued_jobs=0)

    async def close(self) -> None:
        """Nothing is ever under way."""

    def discard(self, session: "NgramSession") -> None:
        """Forgets a session."""
        self._sessions.discard(session)


class NgramSession:
    """The token log of one session."""

    num_reused_tokens = 0

    def __init__(self, proposer: NgramProposer, token_ids: Sequence[int]) -> None:
        self._proposer = proposer
        self._log = array("I", token_ids)

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        started_ns = perf_counter_ns()
        if len(self._log) > _LONG_TEXT:
            draft = await asyncio.to_thread(self.look_up, request)
        else:
            draft = self.look_up(request)
        elapsed_ns = perf_counter_ns() - started_ns
        return draft, RoundTimings(forward_ns=elapsed_ns, total_ns=elapsed_ns)

    def look_up(self, request: SpeculateRound) -> Draft:
        """What followed the last time."""
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
        tokens = tuple(DraftedToken(token_id, [token_id], _CERTAIN) for token_id in guesses)
        return Draft(tokens, NgramProposer.name)

    def close(self) -> None:
        self._proposer.discard(self)


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
