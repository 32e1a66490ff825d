"""A service without tiers, whose answer is what the last message asks for."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from enum import StrEnum

from forethought.errors import DrainingError, InvalidArgumentError
from forethought.generation import (
    DeploymentInfo,
    GenerationParams,
    GenerationRequest,
    NoDraftReason,
    SpeculationStatistics,
    Step,
)
from forethought.sampling.types import VerificationMode
from forethought.tier import ModelInfo
from tests.cli import recorded

MARKUP = "<img src=x onerror=\"document.title='hacked'\"><script>document.title='hacked'</script>"
NO_BREAKS = "unbreakable" * 40
_PROPOSED = {
    1: replace(recorded.REJECTED, proposer="model"),
    2: replace(recorded.ACCEPTED, proposer="suffix"),
}
"""Rounds of the recorded generation, with who drafted for them."""


class Say(StrEnum):
    """Messages that are not answered by the recorded generation."""

    ENDLESS = "begin, and never end"
    MARKUP = "answer in HTML"
    NO_BREAKS = "say a long word"
    REFUSED = "refuse this"
    BROKEN_OFF = "fail in the middle"


class ScriptedClient:
    """Instead of a `GenerationClient`. Remembers what it was asked."""

    def __init__(self, chat_template: str = "a template") -> None:
        self.requests: list[GenerationRequest] = []
        self.has_begun = asyncio.Event()
        """Whether there is an endless answer."""
        self.has_ended = asyncio.Event()
        """Whether somebody has left an endless answer."""
        self._chat_template = chat_template

    async def describe(self, *, timeout_s: float | None = None) -> DeploymentInfo:
        target = ModelInfo("tiny", "model", "vocabulary", 12, 256, "float32", "cpu", 8)
        return DeploymentInfo(
            target,
            3,
            8,
            VerificationMode.REJECTION,
            "fixed",
            bool(self._chat_template),
            GenerationParams(),
            {},
            self._chat_template,
        )

    async def generate_batches(self, request: GenerationRequest) -> AsyncGenerator[list[object]]:
        async with aclosing(self._events(request)) as events:
            async for event in events:
                yield [event]

    async def _events(self, request: GenerationRequest) -> AsyncGenerator[object]:
        self.requests.append(request)
        prompt = request.prompt
        said = prompt if isinstance(prompt, str) else prompt[-1].content
        match said:
            case Say.ENDLESS:
                for event in (recorded.STARTED, *recorded.ROUNDS[1]):
                    yield event
                try:
                    self.has_begun.set()
                    await asyncio.Event().wait()
                finally:
                    self.has_ended.set()
            case Say.MARKUP | Say.NO_BREAKS:
                text = MARKUP if said == Say.MARKUP else NO_BREAKS
                yield recorded.STARTED
                yield replace(recorded.UNDRAFTED, final_text=text)
                yield replace(recorded.TOKENS[0], text=text)
                why = SpeculationStatistics(1, no_draft_reason=NoDraftReason.DID_NOT_PAY)
                yield replace(recorded.FINISHED, speculation=why)
            case Say.REFUSED:
                raise InvalidArgumentError({"params.temperature": f"is no {MARKUP}"})
            case Say.BROKEN_OFF:
                for event in (recorded.STARTED, *recorded.ROUNDS[1]):
                    yield event
                raise DrainingError("the orchestrator is shutting down")
            case _:
                for event in recorded.EVENTS:
                    yield _PROPOSED.get(event.round, event) if isinstance(event, Step) else event
