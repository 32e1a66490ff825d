"""What the log says of a generation: numbers and names, and nothing of its text."""

from collections.abc import Sequence
from typing import Any

from forethought.generation import Finished, GenerationEvent, Started, Token


def facts_of(events: Sequence[GenerationEvent]) -> dict[str, Any]:
    """What events that become known together add to the line of their call."""
    facts: dict[str, Any] = {}
    for event in events:
        match event:
            case Token():  # first, as most are tokens
                facts["num_output_tokens"] = event.index + 1
            case Started():
                facts["num_prompt_tokens"] = event.num_prompt_tokens
                facts["mode"] = event.verification_mode.value
            case Finished():
                rate = event.speculation.acceptance_rate
                facts |= {
                    "num_output_tokens": event.num_output_tokens,
                    "finish_reason": event.reason.value,
                    "num_rounds": event.speculation.num_rounds,
                    "acceptance_rate": None if rate is None else round(rate, 3),
                    "first_token_ms": round(event.time_to_first_token_ns / 1e6, 1),
                }
    return facts


def num_tokens_of(events: Sequence[GenerationEvent]) -> int:
    """Tokens that these events bring or are about: of the prompt, and of the output."""
    return sum(
        event.num_prompt_tokens if isinstance(event, Started) else isinstance(event, Token)
        for event in events
    )
