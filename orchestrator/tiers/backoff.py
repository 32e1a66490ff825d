"""Pauses between attempts that fail, each twice as long as the one before."""

import math
import time


class Backoff:
    """When something may be tried again; at once to begin with.

    Args:
        first_s: the first pause.
        max_s: the longest.
    """

    def __init__(self, first_s: float, max_s: float) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._pause_s = first_s  # the next one
        self._until = 0.0

    @property
    def is_over(self) -> bool:
        """Whether it may be tried now."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """A pause, and a longer one next time."""
        self._until = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._max_s)

    def begin_shortest(self) -> None:
        """The first pause, whatever was before."""
        self._until = time.monotonic() + self._first_s

    def end(self) -> None:
        """It may be tried at once."""
        self._until = 0.0

    def last_for_ever(self) -> None:
        """It is not worth another attempt."""
        self._until = math.inf

    def succeeded(self) -> None:
        """Pauses are short again."""
        self._pause_s = self._first_s
