"""One line in the orchestrator's log for each call: who, how much, how long, and no text."""

import asyncio
from contextlib import aclosing, contextmanager
from dataclasses import replace

import pytest
import structlog

from forethought.errors import InvalidArgumentError, NoStoreError
from forethought.generation import GenerationParams, GenerationRequest
from tests.stack import Stack, generate

GENERATE = "/forethought.v1.GenerationService/Generate"
REQUEST = GenerationRequest(
    [3, 5, 7],
    GenerationParams(max_tokens=8, seed=3, ignore_eos=True, num_speculative_tokens=4),
    request_id="mine",
    tenant="acme",
)


class Lines(list):
    """The log, with an event for every line that ends a call."""

    def __init__(self):
        super().__init__()
        self.came = asyncio.Event()

    def append(self, line):
        super().append(line)
        self.came.set()


@contextmanager
def call_lines():
    """What the log says of calls, request ids included."""
    lines = Lines()

    def keep(_, __, line):
        if line["event"].startswith("call_"):
            lines.append(line)
        raise structlog.DropEvent

    processors = [structlog.contextvars.merge_contextvars, keep]
    before = structlog.get_config()["processors"][:]
    current = structlog.get_config()["processors"]
    current[:] = processors
    try:
        yield lines
    finally:
        current[:] = before


async def test_a_finished_call_leaves_one_line_with_all_its_numbers(self_drafting: Stack):
    with call_lines() as lines:
        answer = await generate(self_drafting.client, REQUEST)
        await lines.came.wait()
    (line,) = lines
    assert line.pop("duration_ms") >= line.pop("first_token_ms") > 0
    assert line == {
        "event": "call_finished",
        "method": GENERATE,
        "request_id": "mine",
        "session_id": answer.started.session_id,
        "tenant": "acme",
        "num_prompt_tokens": 3,
        "num_output_tokens": 8,
        "num_rounds": answer.finished.speculation.num_rounds,
        "acceptance_rate": 1.0,
        "finish_reason": "length",
        "mode": "rejection",
    }


async def test_a_refused_call_leaves_one_line_too(self_drafting: Stack):
    bad = replace(REQUEST, params=replace(REQUEST.params, top_p=7.0))
    with call_lines() as lines:
        with pytest.raises(InvalidArgumentError):
            await generate(self_drafting.client, bad)
        await lines.came.wait()
    (line,) = lines
    assert line["event"] == "call_refused"
    assert (line["method"], line["request_id"], line["tenant"]) == (GENERATE, "mine", "acme")
    assert line["reason"] == "INVALID_ARGUMENT"


async def test_a_call_that_its_client_leaves_says_how_far_it_came(self_drafting: Stack):
    with call_lines() as lines:
        async with aclosing(self_drafting.client.generate(REQUEST)) as events:
            await anext(events)
        await lines.came.wait()
    (line,) = lines
    assert line["event"] in {"call_cancelled", "call_finished"}  # it may have been done by then
    assert (line["request_id"], line["num_prompt_tokens"]) == ("mine", 3)


async def test_a_refused_look_at_a_session_names_it(self_drafting: Stack):
    with call_lines() as lines:
        with pytest.raises(NoStoreError):
            await self_drafting.client.get_session("s-1", "acme")
        await lines.came.wait()
    (line,) = lines
    assert (line["reason"], line["tenant"], line["session_id"]) == ("NO_STORE", "acme", "s-1")


async def test_what_nobody_asks_about_leaves_no_line(self_drafting: Stack):
    with call_lines() as lines:
        await self_drafting.client.describe()
        await generate(self_drafting.client, REQUEST)
        await lines.came.wait()
    assert [line["method"] for line in lines] == [GENERATE]
