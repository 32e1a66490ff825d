"""Whether a thread gets on with its work.

A thread that hangs in one step, in a driver for instance, fails nothing and answers nobody. From
outside it looks like one that computes, so it is judged by time, and slowly: a step may take many
times as long as the longest one before it, and never less than some minutes. Only a new process
mends a thread that hangs.
"""

import time
from collections.abc import Callable

_LEAST_S = 120.0
"""The first pass of a large model may take a minute."""
_FACTOR = 20.0


class Heartbeat:
    """Of work that is done in steps. One thread does it; any may ask.

    Args:
        part: its name, for whoever asks.
        expected_s: the longest step that is known of before there was any.
        clock: in seconds.
    """

    def __init__(
        self, part: str, expected_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._part = part
        self._longest_s = expected_s
        self._clock = clock
        self._since_s: float | None = None  # when the step began that is under way

    def beat(self) -> None:
        """A step begins; one that was under way has ended."""
        now_s = self._clock()
        self._end(now_s)
        self._since_s = now_s

    def rest(self) -> None:
        """The step that was under way has ended, and the next one may come late."""
        self._end(self._clock())
        self._since_s = None

    def _end(self, now_s: float) -> None:
        if self._since_s is not None:
            self._longest_s = max(self._longest_s, now_s - self._since_s)

    @property
    def limit_s(self) -> float:
        """How long a step may take."""
        return max(_LEAST_S, _FACTOR * self._longest_s)

    @property
    def why_stuck(self) -> str:
        """Why the thread counts as stuck; empty while it does not."""
        since_s = self._since_s
        if since_s is None:
            return ""
        took_s = self._clock() - since_s
        if took_s <= self.limit_s:
            return ""
        return f"the {self._part} has been at one step for {took_s:.0f} s"
