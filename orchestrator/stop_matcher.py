"""Holds back text that may turn out to be part of a stop text.

Tokens go in one at a time, so what comes out does not depend on how rounds cut them. A token is
let through when none of its text can belong to a stop text any more.

Of several stop texts the one that is complete first ends the output, of two that are complete at
once the longer. So the text alone decides, not how tokens cut it, and nothing waits for a longer
stop text that began earlier and may never be complete: `cd` ends `abcde` although `abcdef` is one
too. Nothing that is shown contains a stop text, since it would have been complete before.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from forethought.generation import Token


class StopMatcher:
    """Finds which of several texts is complete first in a stream of tokens.

    Each stop text is searched for by Knuth, Morris and Pratt (1977): what is kept is how much of
    its beginning the text so far ends with, so a character costs O(1) on average, however long
    stop texts are and however much is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._searches = [_Search(stop) for stop in stops]
        self._held: deque[Token] = deque()
        self._num_held_chars = 0
        self.matched = ""
        """The stop text that was found, or empty."""

    def push(self, token: Token) -> list[Token]:
        """Takes a token and returns those that are safe to show.

        Once a stop text is found, the tokens before it come out, the last of them cut where it
        begins, and nothing after.
        """
        self._held.append(token)
        for index, char in enumerate(token.text, start=self._num_held_chars + 1):
            complete = [search.stop for search in self._searches if search.take(char)]
            if complete:
                self.matched = max(complete, key=len)
                self._num_held_chars += len(token.text)
                return self._release(index - len(self.matched), cut=True)
        self._num_held_chars += len(token.text)
        return self._release(self._num_held_chars - self._num_at_risk(), cut=False)

    def flush(self) -> list[Token]:
        """The tokens still held back, when no more will come."""
        return self._release(self._num_held_chars, cut=False)

    def _num_at_risk(self) -> int:
        """Characters at the end that are the beginning of a stop text."""
        return max((search.num_matched for search in self._searches), default=0)

    def _release(self, end: int, *, cut: bool) -> list[Token]:
        """Lets go of the tokens whose text ends by `end`; with `cut`, of the next one's part."""
        released: list[Token] = []
        while self._held and len(self._held[0].text) <= end:
            token = self._held.popleft()
            end -= len(token.text)
            self._num_held_chars -= len(token.text)
            released.append(token)
        if cut and end:
            token = self._held[0]
            released.append(replace(token, text=token.text[:end]))
        return released


class _Search:
    """The search for one stop text."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.num_matched = 0
        """Characters at the end of the text that are the beginning of the stop text, the most."""
        self._borders = _borders(stop)

    def take(self, char: str) -> bool:
        """Takes the next character; returns whether it completes the stop text."""
        while self.num_matched and self.stop[self.num_matched] != char:
            self.num_matched = self._borders[self.num_matched - 1]
        if self.stop[self.num_matched] == char:
            self.num_matched += 1
        return self.num_matched == len(self.stop)


def _borders(stop: str) -> list[int]:
    """[len] For each beginning of `stop`: how much of its end, less than all, is a beginning too.

    The prefix function of Knuth, Morris and Pratt.
    """
    borders = [0] * len(stop)
    length = 0
    for index in range(1, len(stop)):
        while length and stop[index] != stop[length]:
            length = borders[length - 1]
        length += stop[index] == stop[length]
        borders[index] = length
    return borders
