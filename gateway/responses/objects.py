"""Responses as they are told."""

from typing import Literal

import msgspec

from forethought.generation import Finished, FinishReason, Started, Token
from gateway.openai.logprobs import TokenLogprob, chat_logprobs
from gateway.openai.usage import Metrics
from gateway.responses.kept import Kept, response_id

Status = Literal["in_progress", "completed", "incomplete", "cancelled"]


class OutputText(msgspec.Struct, frozen=True, tag="output_text"):
    """A part of a message."""

    text: str
    annotations: tuple[()] = ()
    logprobs: list[TokenLogprob] = []


class OutputMessage(msgspec.Struct, frozen=True, tag="message"):
    """What the assistant says."""

    id: str
    status: Literal["in_progress", "completed", "incomplete"]
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class InputTokensDetails(msgspec.Struct, frozen=True):
    """Of the input."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(msgspec.Struct, frozen=True):
    """Of the output."""

    reasoning_tokens: int = 0


class ResponseUsage(msgspec.Struct, frozen=True):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class IncompleteDetails(msgspec.Struct, frozen=True):
    """Why a response ends early."""

    reason: Literal["max_output_tokens"]


class TextFormat(msgspec.Struct, frozen=True, tag="text"):
    """No structure is asked for."""


class TextConfig(msgspec.Struct, frozen=True):
    """Of the output."""

    format: TextFormat = TextFormat()


class ResponseObject(msgspec.Struct, frozen=True, kw_only=True):
    """A response, as far as it is."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status
    model: str
    output: list[OutputMessage]
    usage: ResponseUsage | None = None
    incomplete_details: IncompleteDetails | None = None
    error: None = None
    instructions: str | None
    metadata: dict[str, str]
    previous_response_id: str | None
    max_output_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_logprobs: int | None
    store: bool
    background: bool = False
    parallel_tool_calls: bool = False
    tool_choice: Literal["none"] = "none"
    tools: tuple[()] = ()
    text: TextConfig = TextConfig()
    truncation: Literal["disabled"] = "disabled"
    metrics: Metrics | None = None


class Deleted(msgspec.Struct, frozen=True):
    """It is gone."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


def blank(session_id: str, kept: Kept, *, is_stored: bool) -> ResponseObject:
    """A response that has nothing yet."""
    return ResponseObject(
        id=response_id(session_id),
        created_at=kept.created_at,
        status="in_progress",
        model=kept.model,
        output=[],
        instructions=kept.instructions,
        metadata=kept.metadata,
        previous_response_id=kept.previous_response_id,
        max_output_tokens=kept.max_output_tokens,
        temperature=kept.temperature,
        top_p=kept.top_p,
        top_logprobs=kept.top_logprobs,
        store=is_stored,
    )


def begun(started: Started, kept: Kept) -> ResponseObject:
    """A response whose generation has begun."""
    empty = blank(started.session_id, kept, is_stored=started.is_stored)
    sampling = started.sampling
    if sampling is None:
        return empty
    return msgspec.structs.replace(empty, temperature=sampling.temperature, top_p=sampling.top_p)


def message(response: ResponseObject, tokens: list[Token], status: str) -> OutputMessage:
    """All that is said, as the one item of the output."""
    return told(response, "".join(token.text for token in tokens), status, logprobs_of(tokens))


def told(
    response: ResponseObject, text: str, status: str, logprobs: list[TokenLogprob] | None = None
) -> OutputMessage:
    """A text as the one item of the output."""
    name = response.id.replace("resp_", "msg_", 1)
    of_item: Literal["in_progress", "completed", "incomplete"] = "incomplete"
    if status == "completed":
        of_item = "completed"
    elif status == "in_progress":
        of_item = "in_progress"
    return OutputMessage(name, of_item, [OutputText(text, logprobs=logprobs or [])])


def logprobs_of(tokens: list[Token]) -> list[TokenLogprob]:
    """Of tokens that have them."""
    return chat_logprobs([token for token in tokens if token.logprob is not None]).content


def ended(
    response: ResponseObject, started: Started, finished: Finished, tokens: list[Token]
) -> ResponseObject:
    """A response that is complete, or as long as it may be."""
    is_cut = finished.reason is FinishReason.LENGTH
    status: Status = "incomplete" if is_cut else "completed"
    return msgspec.structs.replace(
        response,
        status=status,
        output=[message(response, tokens, status)],
        incomplete_details=IncompleteDetails("max_output_tokens") if is_cut else None,
        usage=ResponseUsage(
            finished.num_prompt_tokens,
            InputTokensDetails(started.num_cached_tokens),
            finished.num_output_tokens,
            OutputTokensDetails(),
            finished.num_prompt_tokens + finished.num_output_tokens,
        ),
    )
