"""What the gateway counts: requests by route and status, and how long they take."""

from collections.abc import Iterator

from forethought.observability import catalogue
from forethought.observability.buckets import REQUEST_S, STEP_S
from forethought.observability.histogram import Histogram
from forethought.observability.series import Reading

_BOUNDS = sorted({*STEP_S, *REQUEST_S})


class HttpMetrics:
    """Counts in the event loop, read by scrapes."""

    def __init__(self) -> None:
        self._num_running = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._durations: dict[str, Histogram] = {}

    def begin(self) -> None:
        """A request has come."""
        self._num_running += 1

    def end(self, route: str, status: int, duration_s: float) -> None:
        """A request has ended.

        Args:
            route: as the gateway writes it, so that no label has what a client sent.
            status: that it was answered with; 499: its client left before.
            duration_s: to the last byte of the answer.
        """
        self._num_running -= 1
        key = (route, str(status))
        self._counts[key] = self._counts.get(key, 0) + 1
        self._durations.setdefault(route, Histogram(_BOUNDS)).observe(duration_s)

    def readings(self) -> Iterator[Reading]:
        """What is said when it is scraped."""
        yield Reading(catalogue.HTTP_REQUESTS_RUNNING, self._num_running)
        for labels, count in tuple(self._counts.items()):
            yield Reading(catalogue.HTTP_REQUESTS, count, labels)
        for route, durations in tuple(self._durations.items()):
            yield Reading(catalogue.HTTP_REQUEST_SECONDS, durations, (route,))
