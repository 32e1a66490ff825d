"""One answer on the screen: its events as they come, and what is waited for between them."""

from dataclasses import dataclass, replace
from typing import Protocol

from rich.console import Console

from forethought.cli.failure import in_words
from forethought.cli.views.statistics import Tally
from forethought.cli.views.waiting import WaitingView
from forethought.client import GenerationClient, RetryOptions
from forethought.errors import ForethoughtError, LoadingError, OverloadedError
from forethought.generation import Finished, GenerationEvent, GenerationRequest, Waiting
from forethought.resuming import Retry

PATIENT = RetryOptions(waits_until_loaded=True)
"""Who sits before a screen sees what is waited for, and may press Ctrl-C."""

_FIRST_PATIENCE_S = 1.0
_NEXT_PATIENCE_S = 5.0


class View(Protocol):
    """Shows events as they come."""

    def show(self, event: GenerationEvent) -> None:
        """Shows one event."""

    def pause(self) -> None:
        """Ends a line that was begun, before something else is shown on the same terminal."""

    def close(self) -> None:
        """Shows what had to wait for the end, or for what ended it instead."""


@dataclass(frozen=True, slots=True)
class Answering:
    """What an answer is shown with."""

    view: View
    tally: Tally
    errors: Console
    is_quiet: bool = False  # whether nothing is said of what is waited for


async def show_answer(
    client: GenerationClient,
    request: GenerationRequest,
    answering: Answering,
    timeout_s: float | None,
) -> None:
    """Shows every event. Cancelling it cancels the call.

    Raises:
        ForethoughtError: as `GenerationClient.generate`.
    """
    waiting = WaitingView(answering.errors, answering.view.pause, is_quiet=answering.is_quiet)

    def on_retry(retry: Retry) -> None:
        waiting.tell(_describe(retry.error, client), f"tried for {retry.left_s:.0f} s more")

    telling = replace(request, include_progress=not answering.is_quiet)
    waiting.begin("waiting for the first token", _FIRST_PATIENCE_S)
    try:
        async for event in client.generate(telling, timeout_s=timeout_s, on_retry=on_retry):
            if isinstance(event, Waiting):
                waiting.tell(*_reason(event), at_once=event.is_target_lost)
                continue
            waiting.end()
            answering.tally.add(event)
            answering.view.show(event)
            if not isinstance(event, Finished):
                has_begun = answering.tally.num_tokens > 0
                waiting.begin(
                    "waiting for the next token" if has_begun else "waiting for the first token",
                    _NEXT_PATIENCE_S if has_begun else _FIRST_PATIENCE_S,
                )
    finally:
        waiting.end()


def _reason(event: Waiting) -> tuple[str, str]:
    """What an answer waits for, and how far that is."""
    if event.is_target_lost:
        return "the target tier is lost; waiting for it or another one", ""
    return (
        "computing the prompt",
        f"{event.num_computed_tokens:,} of {event.num_tokens:,} tokens",
    )


def _describe(error: ForethoughtError, client: GenerationClient) -> str:
    """What a call waits for that failed with `error` and is made again."""
    where = ", ".join(client.addresses)
    if isinstance(error, LoadingError):
        return f"the orchestrator at {where} is NOT READY, {error.message}"
    if isinstance(error, OverloadedError):
        return f"{where} has no room"
    if error.reason == "TIER_UNAVAILABLE":
        return f"the target tier behind {where} is away ({error.message})"
    if len(client.addresses) > 1:
        return f"one orchestrator does not answer; trying the others of {where}"
    return in_words(error, where).message
