"""The generations behind one request: one, or several side by side (`n`, batches of prompts)."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from forethought.client import GenerationClient
from forethought.generation import (
    Finished,
    GenerationEvent,
    GenerationRequest,
    PromptToken,
    Started,
    Step,
    Token,
)
from gateway.openai.usage import Usage, total_usage

CONCURRENT = 8
"""Generations of one request that run at a time. Others wait their turn."""


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """An event of one of the generations."""

    index: int
    event: GenerationEvent


@dataclass
class Choice:
    """What one generation has brought."""

    started: Started | None = None
    prompt: list[PromptToken] = field(default_factory=list)  # if asked for
    tokens: list[Token] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)  # if asked for
    finished: Finished | None = None

    def take(self, event: GenerationEvent) -> None:
        """Notes an event."""
        match event:
            case Token():
                self.tokens.append(event)
            case Step():
                self.steps.append(event)
            case PromptToken():
                self.prompt.append(event)
            case Started():
                self.started = event
            case Finished():
                self.finished = event

    @property
    def text(self) -> str:
        """So far."""
        return "".join(token.text for token in self.tokens)


async def generate(
    client: GenerationClient, requests: Sequence[GenerationRequest]
) -> AsyncGenerator[list[ChoiceEvent]]:
    """The events of all, as they come: those of each list together. The first failure ends all.

    Raises:
        ForethoughtError: of the generation that failed.
    """
    if len(requests) == 1:
        async with aclosing(client.generate_batches(requests[0])) as batches:
            async for events in batches:
                yield [ChoiceEvent(0, event) for event in events]
        return
    queue: asyncio.Queue[list[ChoiceEvent] | None] = asyncio.Queue()
    running = asyncio.create_task(_run_all(client, requests, queue))
    try:
        while (each := await queue.get()) is not None:
            yield each
        await _unwrapped(running)
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _run_all(
    client: GenerationClient,
    requests: Sequence[GenerationRequest],
    queue: asyncio.Queue[list[ChoiceEvent] | None],
) -> None:
    """Puts all events into the queue, and None behind them."""
    places = asyncio.Semaphore(CONCURRENT)

    async def run(index: int, request: GenerationRequest) -> None:
        async with places, aclosing(client.generate_batches(request)) as batches:
            async for events in batches:
                queue.put_nowait([ChoiceEvent(index, event) for event in events])

    try:
        async with asyncio.TaskGroup() as group:
            for index, request in enumerate(requests):
                group.create_task(run(index, request))
    finally:
        queue.put_nowait(None)


async def _unwrapped(running: asyncio.Task[None]) -> None:
    """The first failure of a group of tasks, by itself."""
    try:
        await running
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def collect(client: GenerationClient, requests: Sequence[GenerationRequest]) -> list[Choice]:
    """What all of them bring, in their order. Raises as `generate` does."""
    choices = [Choice() for _ in requests]
    async with aclosing(generate(client, requests)) as batches:
        async for events in batches:
            for each in events:
                choices[each.index].take(each.event)
    return choices


def answer_usage(choices: Sequence[Choice], num_prompts: int) -> Usage:
    """Of choices that have ended."""
    num_tokens = sum(each.finished.num_output_tokens for each in choices if each.finished)
    started = [each.started for each in choices]
    return total_usage(started, [each.finished for each in choices], num_tokens, num_prompts)
