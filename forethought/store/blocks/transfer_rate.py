"""How fast a store delivers, as measured lately: a fetch takes its latency, and size over rate.

A tier weighs this against the time to compute the same. Averages in which the latest measurement
counts most, in seconds a byte: a store that became slow shows after a few pieces of a long fetch,
in time to stop it. Nothing is said before the first measurement, nor long after the last one, when
only trying can tell: a store that was slow once would never be asked again.
"""

import time
from collections.abc import Callable

_LATEST_WEIGHT = 0.3


class TransferRate:
    """Measures transfers. For one thread.

    Args:
        forgotten_after_s: time after which a measurement says nothing any more.
        clock: in seconds.
    """

    def __init__(
        self, forgotten_after_s: float = 30.0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock = clock
        self._latency = _Average(forgotten_after_s)
        self._seconds_per_byte = _Average(forgotten_after_s)

    @property
    def latency_s(self) -> float | None:
        """Time of a question with a short answer, seconds; None if not known."""
        return self._latency.at(self._clock())

    @property
    def bytes_per_s(self) -> float | None:
        """Bytes a second beyond the latency; None if not known."""
        seconds_per_byte = self._seconds_per_byte.at(self._clock())
        return None if seconds_per_byte is None else 1 / seconds_per_byte

    def seconds_for(self, num_bytes: int) -> float | None:
        """How long a transfer of so many bytes may take; None if not known."""
        rate = self.bytes_per_s
        return None if rate is None else (self.latency_s or 0.0) + num_bytes / rate

    def answered(self, seconds: float) -> None:
        """A question with a short answer took so long."""
        self._latency.add(seconds, self._clock())

    def transferred(self, num_bytes: int, seconds: float) -> None:
        """So many bytes, at least 1, took so long, latency included."""
        # Of a transfer as short as the latency nothing would be left, and the rate be infinite.
        net = max(seconds - (self.latency_s or 0.0), seconds / 2, 1e-9)
        self._seconds_per_byte.add(net / num_bytes, self._clock())


class _Average:
    """An average that forgets."""

    def __init__(self, forgotten_after_s: float) -> None:
        self._forgotten_after_s = forgotten_after_s
        self._value: float | None = None
        self._seen_at = 0.0

    def at(self, now: float) -> float | None:
        """The average, unless the last value is too old."""
        return self._value if now - self._seen_at <= self._forgotten_after_s else None

    def add(self, value: float, now: float) -> None:
        before = self.at(now)
        self._value = value if before is None else before + _LATEST_WEIGHT * (value - before)
        self._seen_at = now
