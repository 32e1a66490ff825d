"""One trace a request, through every process that works on it; and nothing where traces are off."""

import sys
from contextlib import contextmanager

import httpx2
import pytest
import structlog
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from structlog.testing import capture_logs

from forethought.errors import InvalidArgumentError
from forethought.observability import traces
from forethought.observability.open_telemetry import OpenTelemetry
from tests.gateway.answers import CHAT, COMPLETIONS, chat, completion, post
from tests.gateway.conftest import running_gateway
from tests.lifecycle.requests import SEEDED, asking
from tests.stack import generate, running_stack
from tests.waiting import until

GENERATE, VERIFY, SPECULATE = (
    f"forethought.v1.{each}"
    for each in ("GenerationService/Generate", "TargetService/Verify", "DraftService/Speculate")
)
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}


@contextmanager
def recorded():
    """Spans that have ended, of this process."""
    exporter = InMemorySpanExporter()
    traces.record_traces(OpenTelemetry(SimpleSpanProcessor(exporter), "tests"))
    try:
        yield exporter
    finally:
        traces.record_traces(None)


@pytest.fixture
def spans():
    with recorded() as exporter:
        yield exporter


async def ended(spans, num):
    """So many spans that have ended, by their names."""
    await until(lambda: len(spans.get_finished_spans()) >= num)
    return {each.name: each for each in spans.get_finished_spans()}


async def test_a_request_is_one_trace_from_its_caller_to_the_tiers(spans, tiny_target, tiny_draft):
    asked = chat(max_tokens=12, ignore_eos=True)
    async with (
        running_stack(tiny_target, tiny_draft.proposer()) as stack,
        running_gateway(stack.address) as url,
        httpx2.AsyncClient(base_url=url, timeout=60, headers=CALLER) as http,
    ):
        await http.get("/health")
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await post(http, CHAT, asked)
            found = await ended(spans, 4)
    assert {each.context.trace_id for each in found.values()} == {int(TRACE_ID, 16)}
    assert {each.kind for each in found.values()} == {SpanKind.SERVER}
    request, generation = (
        found.pop(f"POST {CHAT}"),
        found.pop(f"chat {stack.deployment.target.name}"),
    )
    assert request.parent.span_id == int(PARENT_ID, 16)
    assert generation.parent.span_id == request.context.span_id
    assert found.keys() == {SPECULATE, VERIFY}
    assert {each.parent.span_id for each in found.values()} == {generation.context.span_id}
    assert request.attributes["http.route"] == CHAT
    assert request.attributes["http.response.status_code"] == 200
    for event, span in (("call_finished", generation), ("request", request)):
        *_, line = [each for each in lines if each["event"] == event]
        assert (line["trace_id"], int(line["span_id"], 16)) == (TRACE_ID, span.context.span_id)


async def test_a_span_of_a_generation_says_what_was_asked_and_what_came(
    spans, tiny_target, tiny_draft
):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        answer = await generate(stack.client, asking(SEEDED, max_tokens=12))
        found = await ended(spans, 3)
    generation = found[f"text_completion {stack.deployment.target.name}"]
    assert generation.parent is None
    for name, value in {
        "operation.name": "text_completion",
        "provider.name": "forethought",
        "conversation.id": answer.started.session_id,
        "request.max_tokens": 12,
        "request.temperature": 1.0,
        "request.seed": -1,  # of 2**64 - 1, with a sign
        "response.finish_reasons": ("length",),
        "usage.input_tokens": 3,
        "usage.output_tokens": 12,
    }.items():
        assert generation.attributes[f"gen_ai.{name}"] == value, name
    rounds = [each.attributes for each in generation.events if each.name == "round"]
    assert [each["round"] for each in rounds] == [step.round for step in answer.steps]
    assert [each["num_draft_tokens"] for each in rounds] == [
        len(step.drafted) for step in answer.steps
    ]
    assert all(each["verification_ms"] > 0 for each in rounds)
    assert not any("abc" in str(each) for each in generation.attributes.values())


async def test_a_span_keeps_the_latest_rounds_of_a_long_answer(monkeypatch, tiny_target):
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "4")
    with recorded() as spans:
        async with running_stack(tiny_target) as stack:
            answer = await generate(stack.client, asking(max_tokens=20, num_speculative_tokens=0))
            found = await ended(spans, 2)
    events = found[f"text_completion {stack.deployment.target.name}"].events
    numbers = [event.attributes["round"] for event in events]
    assert numbers == [step.round for step in answer.steps][-4:]


async def test_what_fails_says_why_and_whose_fault_it_is(spans, tiny_target):
    async with (
        running_stack(tiny_target) as stack,
        running_gateway(stack.address) as url,
        httpx2.AsyncClient(base_url=url, timeout=60) as http,
    ):
        await http.post(COMPLETIONS, json=completion(prompt=[99]))
        refused = await ended(spans, 2)
        await stack.target_server._server.stop(0)
        await stack.server._server.stop(0)
        await http.post(COMPLETIONS, json=completion())
        failed = await ended(spans, 3)
    assert refused[GENERATE].attributes["error.type"] == "INVALID_ARGUMENT"
    assert refused[GENERATE].status.status_code is StatusCode.UNSET
    request = refused[f"POST {COMPLETIONS}"]
    assert (request.attributes["error.type"], request.status.status_code) == (
        "400",
        StatusCode.UNSET,
    )
    request = failed[f"POST {COMPLETIONS}"]
    assert (request.attributes["error.type"], request.status.status_code) == (
        "503",
        StatusCode.ERROR,
    )


async def test_a_client_that_leaves_is_told_apart(spans, tiny_target):
    async with running_stack(tiny_target) as stack:
        events = stack.client.generate(asking(max_tokens=200))
        await anext(events)
        await events.aclose()
        found = await ended(spans, 2)
    generation = found[f"text_completion {stack.deployment.target.name}"]
    assert generation.attributes["error.type"] == "CANCELLED"
    assert generation.status.status_code is StatusCode.UNSET


async def test_what_processes_ask_each_other_begins_no_trace(spans, tiny_target):
    async with running_stack(tiny_target) as stack:
        await stack.client.describe()
        await stack.client.tokenize("abc")
        await generate(stack.client, asking(max_tokens=2))
        found = await ended(spans, 2)
    assert found.keys() == {f"text_completion {stack.deployment.target.name}", VERIFY}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "TRUE"},
        {ENDPOINT: "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_traces_are_off_unless_the_environment_asks_for_them(environment):
    traces.start_traces("target", environment)
    assert not traces.is_on()
    assert traces.server_span("a", CALLER, {}, is_root=True) is traces.OFF
    assert traces.outgoing() == ()
    traces.note_span({"a": 1})
    traces.note_event("a", {})
    traces.note_failure("a", is_ours=True)


def test_what_traces_need_and_there_is_not_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "forethought.observability.open_telemetry", None)
    for name in (ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        with pytest.raises(
            InvalidArgumentError, match=rf"{name}: .* pip install 'forethought\[otel\]'"
        ):
            traces.start_traces("target", {name: "http://127.0.0.1:1"})
    protocol = "OTEL_EXPORTER_OTLP_PROTOCOL"
    with pytest.raises(InvalidArgumentError, match=f"{protocol}: only grpc"):
        traces.start_traces("target", {ENDPOINT: "a", protocol: "http/protobuf"})
