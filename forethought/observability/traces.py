"""Traces: one for each request, through all processes that work on it.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` (or `…_TRACES_ENDPOINT`) says where spans go; then the
extra `otel` is needed (`open_telemetry.py`). Off, a call costs a look at one name.

Who calls is found in the W3C headers `traceparent` and `tracestate`, over HTTP and gRPC alike. Only
the process that a request comes to first begins a trace: what tiers ask each other every second
belongs to none. Log lines of what is traced have its `trace_id` and `span_id`.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, Protocol

from forethought.errors import InvalidArgumentError

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_SPOKEN = "grpc"


class Recorder(Protocol):
    """Makes spans. Each of its methods does what the function of this module does."""

    def server_span(
        self, name: str, headers: Mapping[str, Any], attributes: Mapping[str, Any], *, is_root: bool
    ) -> AbstractContextManager[None]: ...

    def note(self, name: str, attributes: Mapping[str, Any]) -> None: ...

    def fail(self, reason: str, *, is_ours: bool) -> None: ...

    def event(self, name: str, attributes: Mapping[str, Any]) -> None: ...

    def outgoing(self) -> tuple[tuple[str, str], ...]: ...


_recorder: Recorder | None = None  # None: off
OFF: AbstractContextManager[None] = nullcontext()
"""In place of a span."""


def start_traces(process: str, environment: Mapping[str, str] = os.environ) -> None:
    """Turns traces on where the environment says so.

    Args:
        process: what it is called where `OTEL_SERVICE_NAME` calls it nothing.
        environment: with OpenTelemetry's variables.

    Raises:
        InvalidArgumentError: it asks for what is not installed, or not spoken.
    """
    endpoint = next((name for name in _ENDPOINTS if environment.get(name)), None)
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if endpoint is None or is_disabled or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return
    protocol = next((name for name in _PROTOCOLS if environment.get(name)), None)
    if protocol is not None and environment[protocol] != _SPOKEN:
        raise InvalidArgumentError({protocol: f"only {_SPOKEN} is spoken here: leave it out"})
    try:
        exporting = import_module("forethought.observability.open_telemetry")
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed: pip install 'forethought[otel]'"
        raise InvalidArgumentError({endpoint: missing}) from error
    record_traces(exporting.exporting(process))


def record_traces(recorder: Recorder | None) -> None:
    """Has all spans from now on made by this one; None makes none."""
    global _recorder  # noqa: PLW0603 - traces are on or off for the whole process
    _recorder = recorder


def is_on() -> bool:
    """Whether spans are made."""
    return _recorder is not None


def server_span(
    name: str,
    headers: Mapping[str, Any],
    attributes: Mapping[str, Any],
    *,
    is_root: bool,
) -> AbstractContextManager[None]:
    """Has what is done within belong to a span.

    Args:
        name: of the span.
        headers: of the request, in lower case.
        attributes: of the span.
        is_root: begin a trace where the caller has none.
    """
    if _recorder is None:
        return OFF
    return _recorder.server_span(name, headers, attributes, is_root=is_root)


def note_span(attributes: Mapping[str, Any], name: str = "") -> None:
    """Adds to the span at hand, or replaces what was noted before.

    Args:
        attributes: None where there is none to tell.
        name: the span's, from now on; empty: as it was.
    """
    if _recorder is not None:
        _recorder.note(name, attributes)


def note_failure(reason: str, *, is_ours: bool) -> None:
    """The span at hand fails.

    Args:
        reason: constant, for people who search.
        is_ours: and not the caller's, whose mistakes are none of the server's.
    """
    if _recorder is not None:
        _recorder.fail(reason, is_ours=is_ours)


def note_event(name: str, attributes: Mapping[str, Any]) -> None:
    """Something happened within the span at hand. A span keeps the latest 128 of them, or as
    many as `OTEL_SPAN_EVENT_COUNT_LIMIT` says."""
    if _recorder is not None:
        _recorder.event(name, attributes)


def outgoing() -> tuple[tuple[str, str], ...]:
    """Metadata that has a call belong to the trace at hand."""
    return () if _recorder is None else _recorder.outgoing()
