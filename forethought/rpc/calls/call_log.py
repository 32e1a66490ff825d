"""One line in the log for each call that a person may ask about.

A handler notes what is worth knowing of its call, never a text; what ends the call writes it, with
the method and how long it took. A call of which nothing is noted, such as the questions that tiers
ask each other every second, leaves no line unless it fails.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import perf_counter
from typing import Any

import structlog

_log = structlog.get_logger(__name__)


class CallRecord:
    """What is known of a call under way."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._began_at = perf_counter()
        self._noted: dict[str, Any] = {}

    def note(self, **facts: Any) -> None:
        """Adds to the line, or replaces what was noted before."""
        self._noted |= facts

    @property
    def is_worth_a_line(self) -> bool:
        """Whether the handler noted anything."""
        return bool(self._noted)

    @property
    def facts(self) -> dict[str, Any]:
        """All of the line."""
        duration_ms = round((perf_counter() - self._began_at) * 1000, 1)
        return {"method": self._method, "duration_ms": duration_ms, **self._noted}


_current: ContextVar[CallRecord | None] = ContextVar("call", default=None)


@contextmanager
def recorded_call(method: str) -> Iterator[CallRecord]:
    """Writes the line of a call that ends well or is cancelled; who handles its errors writes the
    others."""
    record = CallRecord(method)
    token = _current.set(record)
    try:
        yield record
    except asyncio.CancelledError:
        if record.is_worth_a_line:
            _log.info("call_cancelled", **record.facts)
        raise
    else:
        if record.is_worth_a_line:
            _log.info("call_finished", **record.facts)
    finally:
        _current.reset(token)


def note_call(**facts: Any) -> None:
    """Adds to the line of the call that is being handled. Outside of one it does nothing."""
    record = _current.get()
    if record is not None:
        record.note(**facts)
