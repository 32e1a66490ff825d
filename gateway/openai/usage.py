"""How many tokens, and how speculation went."""

from collections.abc import Sequence

import msgspec

from forethought.generation import (
    PREDICTION,
    Finished,
    NoDraftReason,
    SpeculationStatistics,
    Started,
)

_MS = 1e6  # nanoseconds


class PromptTokensDetails(msgspec.Struct, frozen=True):
    """Of the prompt."""

    cached_tokens: int


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    """Of the answer: guesses of its request's `prediction`, by what became of them."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(msgspec.Struct, frozen=True):
    """Tokens of an answer, over all of its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class SpeculativeDecoding(msgspec.Struct, frozen=True):
    """How speculation went, in vLLM's words. Steps are rounds that had a draft."""

    mean_acceptance_length: float | None
    draft_acceptance_rate: float | None
    acceptance_histogram: list[int]
    num_spec_steps: int
    num_accepted_draft_tokens: int
    num_draft_tokens: int
    num_spec_tokens: int
    per_step_accepted: list[int] | None = None
    per_step_drafted: list[int] | None = None
    no_draft_reason: NoDraftReason | None = None


class Metrics(msgspec.Struct, frozen=True):
    """Times of an answer, and how speculation went."""

    time_to_first_token_ms: float
    generation_time_ms: float
    queue_time_ms: float | None
    mean_itl_ms: float | None
    tokens_per_second: float | None
    speculative_decoding: SpeculativeDecoding


def total_usage(
    started: Sequence[Started | None],
    finished: Sequence[Finished | None],
    num_output_tokens: int,
    num_prompts: int,
) -> Usage:
    """Of several choices: each prompt counts once, whatever its number of choices.

    Args:
        started: how each choice began, prompt by prompt; None where it has not.
        finished: how each choice ended; None where it has not, and its guesses are not counted yet.
        num_output_tokens: of all choices, so far.
        num_prompts: that the choices belong to.
    """
    num_choices = len(started) // num_prompts
    begun = []
    for first in range(0, len(started), num_choices):
        of_prompt = [each for each in started[first : first + num_choices] if each is not None]
        begun += of_prompt[:1]
    num_prompt_tokens = sum(each.num_prompt_tokens for each in begun)
    guessed = [each.speculation.of(PREDICTION) for each in finished if each is not None]
    num_accepted = sum(each.num_accepted_tokens for each in guessed)
    return Usage(
        num_prompt_tokens,
        num_output_tokens,
        num_prompt_tokens + num_output_tokens,
        PromptTokensDetails(sum(each.num_cached_tokens for each in begun)),
        CompletionTokensDetails(
            num_accepted, sum(each.num_draft_tokens for each in guessed) - num_accepted
        ),
    )


def metrics(finished: Finished) -> Metrics:
    """Of an answer with one choice."""
    rest_ns = finished.total_ns - finished.time_to_first_token_ns
    num_later = finished.num_output_tokens - 1
    has_pace = num_later > 0 and rest_ns > 0
    return Metrics(
        time_to_first_token_ms=finished.time_to_first_token_ns / _MS,
        generation_time_ms=rest_ns / _MS,
        queue_time_ms=None,
        mean_itl_ms=rest_ns / num_later / _MS if has_pace else None,
        tokens_per_second=num_later / rest_ns * 1e9 if has_pace else None,
        speculative_decoding=_speculation(finished.speculation),
    )


def _speculation(counts: SpeculationStatistics) -> SpeculativeDecoding:
    steps = sum(each.num_rounds for each in counts.proposers)
    reached = [steps, *counts.num_accepted_tokens_per_position]
    later = [*counts.num_accepted_tokens_per_position, 0]
    accepted = counts.num_accepted_tokens
    return SpeculativeDecoding(
        mean_acceptance_length=1 + accepted / steps if steps else None,
        draft_acceptance_rate=counts.acceptance_rate,
        acceptance_histogram=[here - more for here, more in zip(reached, later, strict=True)],
        num_spec_steps=steps,
        num_accepted_draft_tokens=accepted,
        num_draft_tokens=counts.num_draft_tokens,
        num_spec_tokens=len(counts.num_accepted_tokens_per_position),
        no_draft_reason=counts.no_draft_reason,
    )
