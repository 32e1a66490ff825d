"""How much of a model has been read, for the log."""

import time
from collections.abc import Mapping

import structlog

_INTERVAL_S = 2.0
_log = structlog.get_logger(__name__)


class ReadingProgress:
    """Says now and then how many bytes of the weights are laid out, of how many.

    Args:
        sizes: bytes of each weight as it is stored, by its name.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._done = 0
        self._started = self._said_at = time.perf_counter()

    def add_layer(self, name: str) -> None:
        """All weights whose names begin with the layer's are laid out."""
        self._done += sum(n for each, n in self._sizes.items() if each.startswith(f"{name}."))
        now = time.perf_counter()
        if now - self._said_at >= _INTERVAL_S:
            self._said_at = now
            _log.info(
                "model_reading",
                num_bytes=self._done,
                of_bytes=sum(self._sizes.values()),
                seconds=round(now - self._started, 1),
            )
