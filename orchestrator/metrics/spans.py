"""What a span says of a generation, by OpenTelemetry's conventions for generative AI, and nothing
of its text."""

from collections.abc import Sequence
from typing import Any

from forethought.generation import Finished, GenerationEvent, Started
from orchestrator.loop.round import Round
from orchestrator.request.plan import GenerationPlan

_OPERATIONS = {"conversation": "chat", "follow_up": "chat", "resume": "generate_content"}


def operation_of(kind: str | None) -> str:
    """What is done with a kind of prompt."""
    return _OPERATIONS.get(kind or "", "text_completion")


def facts_of_plan(plan: GenerationPlan, session_id: str) -> dict[str, Any]:
    """What is asked for."""
    sampling = plan.sampling
    return {
        "gen_ai.provider.name": "forethought",
        "gen_ai.conversation.id": session_id,
        "gen_ai.output.type": "text",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": plan.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.seed": (sampling.seed + 2**63) % 2**64 - 2**63,  # a span's are signed
        "forethought.verification_mode": plan.mode.value,
        "forethought.request_id": plan.request_id or None,
    }


def facts_of_events(events: Sequence[GenerationEvent]) -> dict[str, Any]:
    """What events that become known together add."""
    facts: dict[str, Any] = {}
    for event in events:
        match event:
            case Started():
                facts |= {
                    "gen_ai.response.model": event.model,
                    "gen_ai.usage.input_tokens": event.num_prompt_tokens,
                    "gen_ai.usage.cache_read.input_tokens": event.num_cached_tokens,
                }
            case Finished():
                counts = event.speculation
                facts |= {
                    "gen_ai.response.finish_reasons": [event.reason.value],
                    "gen_ai.response.time_to_first_chunk": event.time_to_first_token_ns / 1e9,
                    "gen_ai.usage.output_tokens": event.num_output_tokens,
                    "forethought.num_rounds": counts.num_rounds,
                    "forethought.num_draft_tokens": counts.num_draft_tokens,
                    "forethought.num_accepted_tokens": counts.num_accepted_tokens,
                }
    return facts


def facts_of_round(judged: Round) -> dict[str, Any]:
    """What a round came to, and where its time went."""
    target = judged.measured.timings
    return {
        "round": judged.session.round,
        "proposer": judged.draft.proposer,
        "num_draft_tokens": len(judged.draft),
        "num_accepted_tokens": judged.outcome.num_accepted_tokens,
        "speculation_ms": judged.speculation_ns / 1e6,
        "verification_ms": judged.verification_ns / 1e6,
        "rejection_ms": judged.rejection_ns / 1e6,
        "target_queue_ms": target.queue_ns / 1e6,
        "target_forward_ms": target.forward_ns / 1e6,
    }
