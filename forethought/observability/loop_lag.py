"""How late an event loop comes to what is due."""

import asyncio

from forethought.observability import catalogue
from forethought.observability.buckets import STEP_S
from forethought.observability.histogram import Histogram
from forethought.observability.series import Reading

_INTERVAL_S = 0.5


class LoopLag:
    """Looks at the running loop until it is closed."""

    def __init__(self) -> None:
        self.lags = Histogram(STEP_S)
        self._loop = asyncio.get_running_loop()
        self._due_s = 0.0
        self._wait()

    def readings(self) -> tuple[Reading]:
        """What is said when it is scraped."""
        return (Reading(catalogue.EVENT_LOOP_LAG, self.lags),)

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def _wait(self) -> None:
        self._due_s = self._loop.time() + _INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._look)

    def _look(self) -> None:
        # uvloop counts in milliseconds, and may be early.
        self.lags.observe(max(self._loop.time() - self._due_s, 0.0))
        self._wait()
