"""Drafts by looking the text up in itself (prompt lookup decoding, Saxena 2023).

The longest run of tokens at the end that has occurred before, in the prompt or in the output, is
likely to go on as it did then. No model, no training; it pays where the output repeats the input:
code edits, summaries, extraction, agents.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forethought.sampling.types import DraftedToken, certain_guess
from orchestrator.loop.session import Session

_LONG_TEXT = 65_536  # tokens; a shorter one is searched faster than another thread takes it over


@dataclass(frozen=True, slots=True)
class NgramLookup:
    """Drafts by searching the text."""

    name = "ngram"

    min_match: int = 2
    """Shortest run of tokens to look up."""
    max_match: int = 16
    """Longest run; longer ones count as this long."""

    def open(self, session: Session) -> "NgramSession":  # noqa: ARG002 - it reads later
        return NgramSession(self)


class NgramSession:
    """Searches its text anew in each round."""

    def __init__(self, lookup: NgramLookup) -> None:
        self._lookup = lookup
        self._text = array("I")

    def is_slow(self, session: Session) -> bool:
        return session.position > _LONG_TEXT

    def draft(self, session: Session, num_tokens: int) -> Sequence[DraftedToken]:
        """What followed the last time."""
        self._text.extend(session.token_ids[len(self._text) :])
        lookup = self._lookup
        text = np.array(self._text)
        found = continuation(text, num_tokens, lookup.min_match, lookup.max_match)
        return [certain_guess(token_id, session.mode) for token_id in found]

    def close(self) -> None:
        """Nothing is held elsewhere."""


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
