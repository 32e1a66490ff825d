"""What a client asks when a call was lost, of a service that keeps nothing of it."""

from collections.abc import AsyncGenerator

import pytest

from forethought.errors import RemoteError
from forethought.generation import (
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    PromptToken,
    SpeculationStatistics,
    Started,
    Token,
)
from forethought.resuming import Progress, RetryOptions, resuming
from forethought.sampling.types import TokenOrigin

REQUEST = GenerationRequest("a")
TOKEN = Token(0, 5, "x", TokenOrigin.BONUS, None, 1.0)
FINISHED = Finished(FinishReason.LENGTH, 1, 1, SpeculationStatistics(), 1, 1)


def started(number: int) -> Started:
    return Started(f"session {number}", seed=number, num_prompt_tokens=1, model="m")


class LostError(RemoteError):
    def __init__(self) -> None:
        super().__init__("lost", code="UNAVAILABLE")


async def answer(
    *attempts: list[GenerationEvent], is_replicated: bool = True
) -> tuple[list[GenerationEvent], list[GenerationRequest]]:
    """What a client gets and what it asks where all calls but the last are lost."""
    left, asked = list(attempts), []

    async def attempt(
        request: GenerationRequest, _: float | None
    ) -> AsyncGenerator[list[GenerationEvent]]:
        asked.append(request)
        yield left.pop(0)
        if left:
            raise LostError

    progress = Progress(REQUEST, is_replicated=is_replicated)
    got = [events async for events in resuming(attempt, progress, RetryOptions(), None)]
    return [event for events in got for event in events], asked


async def test_an_answer_of_which_nothing_was_told_is_asked_anew_with_its_seed():
    got, asked = await answer([started(1)], [started(2), TOKEN, FINISHED])
    assert got == [started(1), TOKEN, FINISHED]
    assert [request.params.seed for request in asked] == [None, 1]
    assert {request.prompt for request in asked} == {"a"}


@pytest.mark.parametrize("told", [TOKEN, PromptToken(0, 5, "a")])
async def test_an_answer_of_which_something_was_told_is_lost(told):
    with pytest.raises(LostError):
        await answer([started(1), told], [started(2), TOKEN, FINISHED])


async def test_nothing_is_asked_anew_of_an_orchestrator_that_is_alone():
    with pytest.raises(LostError):
        await answer([started(1)], [started(2), TOKEN, FINISHED], is_replicated=False)
