"""Drafts by looking the text up in itself (prompt lookup decoding, Saxena 2023).

The longest run of tokens at the end that has occurred before, in the prompt or in the output, is
likely to go on as it did then. No model, no training; it pays where the output repeats the input:
code edits, summaries, extraction, agents.
"""

import numpy as np

from forethought.lookup.proposer import LookupProposer, LookupSession
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound

_LONG_TEXT = 65_536  # tokens; a shorter one is searched faster than another thread takes it over


class NgramProposer(LookupProposer):
    """Drafts by searching the text.

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
        super().__init__(info, max_sessions)
        self.min_match = min_match
        self.max_match = max_match

    def new_session(self, opening: SessionOpen) -> "NgramSession":
        return NgramSession(self, opening)


class NgramSession(LookupSession):
    """Searches its log anew in each round."""

    def __init__(self, proposer: NgramProposer, opening: SessionOpen) -> None:
        super().__init__(proposer, opening)
        self._min_match = proposer.min_match
        self._max_match = proposer.max_match

    def is_slow(self, request: SpeculateRound) -> bool:  # noqa: ARG002
        return len(self.log) > _LONG_TEXT

    def guess(self, num_tokens: int, num_kept: int) -> list[int]:  # noqa: ARG002
        """What followed the last time."""
        return continuation(np.array(self.log), num_tokens, self._min_match, self._max_match)


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
