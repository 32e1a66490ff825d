"""How many sessions are under way at once, without short dips."""

import math

ROUNDS_TO_FALL = 12
"""Rounds of each session until fewer of them are a lower load: between an answer and the next
request there are fewer for a moment."""


class Load:
    """Sessions under way."""

    def __init__(self) -> None:
        self.num_sessions = 1
        """At once, without short dips."""
        self._num_below = 0  # rounds since there were as many
        self._most_below = 0  # and how many there were at most in that time

    @property
    def bucket(self) -> int:
        """Loads that are taken to be alike: 1, 2, up to 4, up to 8 sessions, and so on."""
        return bucket_of(self.num_sessions)

    def reset(self) -> None:
        """There is one session, after there were none."""
        self.num_sessions, self._num_below, self._most_below = 1, 0, 0

    def observe(self, num_sessions: int, num_rounds: int) -> None:
        """So many sessions take so many rounds."""
        if num_sessions < self.num_sessions:
            self._num_below += num_rounds
            self._most_below = max(self._most_below, num_sessions)
            if self._num_below < ROUNDS_TO_FALL * num_sessions:
                return
        self.num_sessions = max(num_sessions, self._most_below)
        self._num_below = self._most_below = 0


def bucket_of(num_sessions: int) -> int:
    """0 for 1, 1 for 2, 2 for up to 4, 3 for up to 8."""
    return math.ceil(math.log2(max(num_sessions, 1)))
