"""Holds back text that may turn out to be part of a stop text.

Tokens go in one at a time, so what comes out does not depend on how rounds cut them. A token is
let through when none of its text can belong to a stop text any more.

Of several stop texts the one that is complete first ends the output, of two that are complete at
once the longer. So the text alone decides, not how tokens cut it, and nothing waits for a longer
stop text that began earlier and may never be complete: `cd` ends `abcde` although `abcdef` is one
too. Nothing that is shown contains a stop text, since it would have been complete before.
"""

from collections.abc import Sequence
from dataclasses import replace

from forethought.generation import Token


class StopMatcher:
    """Finds which of several texts is complete first in a stream of tokens."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held: list[Token] = []
        self._held_text = ""
        self.matched = ""
        """The stop text that was found, or empty."""

    def push(self, token: Token) -> list[Token]:
        """Takes a token and returns those that are safe to show.

        Once a stop text is found, the tokens before it come out, the last of them cut where it
        begins, and nothing after.
        """
        self._held.append(token)
        self._held_text += token.text
        place, self.matched = self._find()
        if self.matched:
            return self._release(place, cut=True)
        return self._release(len(self._held_text) - self._num_at_risk(), cut=False)

    def flush(self) -> list[Token]:
        """The tokens still held back, when no more will come."""
        return self._release(len(self._held_text), cut=False)

    def _find(self) -> tuple[int, str]:
        """Place and text of the stop text that is complete first; of two the longer."""
        found = [
            (place, stop) for stop in self._stops if (place := self._held_text.find(stop)) >= 0
        ]
        return min(found, key=lambda hit: (hit[0] + len(hit[1]), hit[0]), default=(0, ""))

    def _num_at_risk(self) -> int:
        """Characters at the end that are the beginning of a stop text."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._held_text) + 1))
                if self._held_text.endswith(stop[:length])
            ),
            default=0,
        )

    def _release(self, end: int, *, cut: bool) -> list[Token]:
        """Lets go of the tokens whose text ends by `end`; with `cut`, of the next one's part."""
        released: list[Token] = []
        while self._held and len(self._held[0].text) <= end:
            token = self._held.pop(0)
            end -= len(token.text)
            self._held_text = self._held_text[len(token.text) :]
            released.append(token)
        if cut and end:
            token = self._held[0]
            released.append(replace(token, text=token.text[:end]))
        return released
