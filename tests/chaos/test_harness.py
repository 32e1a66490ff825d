"""What the harness would find: its own broken twins."""

import asyncio

import pytest

from forethought.errors import TierUnavailableError
from forethought.generation import (
    Finished,
    FinishReason,
    SpeculationStatistics,
    Token,
)
from forethought.sampling.types import TokenOrigin
from tests.chaos.streams import Findings, Readers, read, requests
from tests.waiting import until

FINISHED = Finished(FinishReason.LENGTH, 3, 3, SpeculationStatistics(), 1, 2)


def token(index, token_id=5):
    return Token(index, token_id, "a", TokenOrigin.BONUS, None, 1.0)


class ScriptedClient:
    """Answers every request with the same events."""

    def __init__(self, *events):
        self._events = events

    async def generate(self, request, *, timeout_s):
        await asyncio.sleep(0)
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event


async def failures_of(*events):
    """What readers that expect the tokens 5, 5 make of an answer."""
    asked = requests(2)
    readers = Readers([ScriptedClient(*events)], asked, dict.fromkeys(asked, (5, 5)))
    [task] = readers.start(1, 0)
    await until(lambda: readers.findings.num_streams or readers.findings.failures)
    readers.stop()
    await task
    return readers.findings.failures


async def test_a_right_answer_is_no_failure():
    assert not await failures_of(token(0), token(1), FINISHED)


@pytest.mark.parametrize(
    ("events", "found"),
    [
        ((token(0), token(1, 6), FINISHED), "another text from token 1 on"),
        ((token(0), FINISHED), "another text from token 1 on"),
        ((token(0), token(2), FINISHED), "token 2 came as number 1"),
        ((token(0), token(0), FINISHED), "token 0 came as number 1"),
        ((token(0), token(1)), "ended before the answer did"),
        ((token(0), TierUnavailableError("gone")), "gone"),
    ],
    ids=["other token", "short", "gap", "repetition", "no end", "error"],
)
async def test_a_wrong_answer_is_found(events, found):
    assert found in (await failures_of(*events))[0]


async def test_the_longest_pause_is_kept():
    findings = Findings()
    await read(ScriptedClient(token(0), FINISHED), next(iter(requests(1).values())), findings)
    assert findings.longest_pause_s > 0
