"""Spans by OpenTelemetry's SDK, sent by OTLP. Only this module knows it.

OpenTelemetry's own variables hold: where to, with which headers and certificate, how much is
sampled, how many events a span keeps, what the service is called.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from forethought import __version__

_CANCELLED = "CANCELLED"


class OpenTelemetry:
    """A Recorder of traces.

    Args:
        processor: told of each span.
        process: what makes them.
    """

    def __init__(self, processor: SpanProcessor, process: str) -> None:
        ours = {"service.name": f"forethought-{process}", "service.version": __version__}
        resource = Resource.create(ours).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource)
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("forethought", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def server_span(
        self, name: str, headers: Mapping[str, Any], attributes: Mapping[str, Any], *, is_root: bool
    ) -> Iterator[None]:
        caller = self._propagator.extract(headers)
        if not (is_root or get_current_span(caller).get_span_context().is_valid):
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            caller,
            SpanKind.SERVER,
            attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            context = span.get_span_context()
            ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
            with structlog.contextvars.bound_contextvars(**ids):
                try:
                    yield
                except asyncio.CancelledError:
                    self.fail(_CANCELLED, is_ours=False)
                    raise

    def note(self, name: str, attributes: Mapping[str, Any]) -> None:
        span = get_current_span()
        if name:
            span.update_name(name)
        span.set_attributes({key: each for key, each in attributes.items() if each is not None})

    def fail(self, reason: str, *, is_ours: bool) -> None:
        span = get_current_span()
        span.set_attribute("error.type", reason)
        if is_ours:
            span.set_status(StatusCode.ERROR, reason)

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        get_current_span().add_event(name, attributes)

    def outgoing(self) -> tuple[tuple[str, str], ...]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return tuple(carrier.items())


def exporting(process: str) -> OpenTelemetry:
    """Spans go where the environment says."""
    return OpenTelemetry(BatchSpanProcessor(OTLPSpanExporter()), process)
