"""`python -m gateway` as a process."""

import asyncio
import os
import signal
import sys

import grpc
import httpx2
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from prometheus_client.parser import text_string_to_metric_families

from forethought.observability.catalogue import SERIES
from forethought.observability.series import PREFIX, Process
from tests.gateway.answers import CHAT, chat, events_of
from tests.ports import free_port
from tests.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


def promised():
    """By the catalogue."""
    return {
        f"{PREFIX}:{name}"
        for series in SERIES
        if Process.GATEWAY in series.processes
        for name in series.sample_names
    }


def exported_by(scrape):
    families = text_string_to_metric_families(scrape)
    return {sample.name for each in families for sample in each.samples if ":" in sample.name}


class Collector(TraceServiceServicer):
    """Where spans are sent to."""

    def __init__(self):
        self.spans = []

    async def Export(self, request, context):  # noqa: N802 - a method of gRPC
        for resource in request.resource_spans:
            (name,) = [each for each in resource.resource.attributes if each.key == "service.name"]
            for scope in resource.scope_spans:
                self.spans += [(name.value.string_value, each.name) for each in scope.spans]
        return ExportTraceServiceResponse()


async def test_the_process_serves_and_lets_a_stream_end_before_it_does(stack):
    port, admin = free_port(), free_port()
    collector, server = Collector(), grpc.aio.server()
    add_TraceServiceServicer_to_server(collector, server)
    traces = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "--orchestrator", stack.address),
        *("--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{admin}"),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": traces},
    )
    async with httpx2.AsyncClient(timeout=60) as http:

        async def is_ready():
            try:
                return (await http.get(f"http://127.0.0.1:{admin}/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(is_ready)
        await http.get(f"http://127.0.0.1:{port}/v1/models/none/such")
        scrape = (await http.get(f"http://127.0.0.1:{admin}/metrics")).text
        assert exported_by(scrape) == promised()
        labels = '{route="/v1/models/{model:path}",status="404"}'
        assert f"forethought:http_requests_total{labels} 1.0" in scrape
        asked = chat(max_tokens=100, ignore_eos=True, stream=True)
        url = f"http://127.0.0.1:{port}{CHAT}"
        async with http.stream("POST", url, json=asked) as response:
            lines = response.aiter_lines()
            text = [await anext(lines)]
            process.send_signal(signal.SIGTERM)
            text += [line async for line in lines]
    assert len(events_of("\n".join([*text, ""]))) == 102
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert ("forethought-gateway", f"POST {CHAT}") in collector.spans
    await server.stop(None)
