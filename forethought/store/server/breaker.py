"""A breaker: who fails again and again is left alone for a while.

    closed      calls go through; so many failures in a row open it
    open        calls are refused at once, until the pause is over
    half open   one call goes through, the probe; the others are refused until it is back. Its
                success closes the breaker, its failure opens it for twice as long, up to a limit

A store that hangs costs each call its whole time limit. With a breaker it costs that only a few
calls, and one at a time from then on.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class BreakerState(Enum):
    """What a call can expect."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """How soon it opens, and for how long."""

    max_failures: int = 3
    """Failures in a row that open it."""
    first_pause_s: float = 0.25
    max_pause_s: float = 5.0
    """Pauses double up to this one."""


class Breaker:
    """Watches calls to one server. For one thread."""

    def __init__(
        self, settings: BreakerSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._num_failures = 0  # in a row
        self._pause_s = 0.0  # the latest one
        self._closed_until = 0.0
        self._probing = False
        self.state = BreakerState.CLOSED

    @property
    def pause_left_s(self) -> float:
        """Seconds until a probe may go through; 0 if one could now, or is under way."""
        if self.state is not BreakerState.OPEN:
            return 0.0
        return max(self._closed_until - self._clock(), 0.0)

    def admits(self) -> bool:
        """Whether a call may go through. If so, its end must be told by one of the others."""
        if self.state is BreakerState.CLOSED:
            return True
        if self._probing or self.pause_left_s > 0:
            return False
        self.state = BreakerState.HALF_OPEN
        self._probing = True
        return True

    def succeeded(self) -> None:
        """A call was answered."""
        self.state = BreakerState.CLOSED
        self._num_failures = 0
        self._pause_s = 0.0
        self._probing = False

    def failed(self) -> None:
        """A call failed. One that was under way when the breaker opened makes it no worse."""
        self._num_failures += 1
        if self.state is BreakerState.OPEN:
            return
        enough = self._num_failures >= self._settings.max_failures
        if self.state is BreakerState.HALF_OPEN or enough:
            doubled = max(2 * self._pause_s, self._settings.first_pause_s)
            self._pause_s = min(doubled, self._settings.max_pause_s)
            self._closed_until = self._clock() + self._pause_s
            self.state = BreakerState.OPEN
        self._probing = False

    def given_up(self) -> None:
        """A call ended without saying anything of the server, as by cancellation."""
        self._probing = False
