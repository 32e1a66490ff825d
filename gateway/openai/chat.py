"""`/v1/chat/completions`."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from forethought.generation import (
    ChatMessage,
    Finished,
    GenerationParams,
    GenerationRequest,
    Started,
    Step,
    Token,
)
from gateway.openai.choices import Choice
from gateway.openai.logprobs import ChatLogprobs, chat_logprobs, prompt_logprobs
from gateway.openai.messages import Message
from gateway.openai.sampling import GenerationFields, SamplingFields, check_counts, other_fields
from gateway.openai.steps import GeneratedToken, SpeculationStep, told_steps, told_tokens
from gateway.openai.stream import Answer, ChunkWriter, Head, answer
from gateway.web.errors import invalid

OBJECT = "chat.completion"
Prompt = Sequence[ChatMessage] | Sequence[int]
OTHERS = other_fields(
    set(),
    {
        "add_generation_prompt": (True,),
        "add_special_tokens": (False,),
        "audio": (),
        "chat_template": (),
        "chat_template_kwargs": ({},),
        "continue_final_message": (False,),
        "documents": ([],),
        "echo": (False,),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "media_io_kwargs": ({},),
        "mm_processor_kwargs": ({},),
        "moderation": (),
        "thinking_token_budget": (),
        "include_reasoning": (True, False),
        "modalities": (["text"],),
        "reasoning_effort": ("none",),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "verbosity": ("medium",),
        "web_search_options": (),
    },
)


class ChatRequest(SamplingFields, frozen=True, kw_only=True):
    """The body of a request."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: int | None = None

    def check(self) -> None:
        super().check()
        if not self.messages:
            raise invalid("messages", "must hold at least one message")
        if self.max_completion_tokens is not None and self.max_tokens is not None:
            raise invalid("max_tokens", "is the same as max_completion_tokens: choose one")
        check_counts(
            max_completion_tokens=self.max_completion_tokens, top_logprobs=self.top_logprobs
        )
        if self.top_logprobs and not self.logprobs:
            raise invalid("top_logprobs", "needs logprobs")

    @property
    def conversation(self) -> list[ChatMessage]:
        """What is said."""
        return [each.as_value() for each in self.messages]

    def requests(self, prompt: Prompt, request_id: str) -> list[GenerationRequest]:
        """One for each choice of a prompt: the conversation, or its tokens."""
        return [
            GenerationRequest(prompt, self._params(choice), request_id, self.include_steps)
            for choice in range(self.n)
        ]

    def name_of(self, field: str) -> str:
        """What the route calls a field of the service."""
        most = "max_completion_tokens" if self.max_completion_tokens is not None else "max_tokens"
        names = {
            "prompt.conversation": "messages",
            "prompt.token_ids": "messages",
            "params.max_tokens": most,
            "params.logprobs": "top_logprobs",
        }
        return names.get(field, field.removeprefix("params."))

    def _params(self, choice: int) -> GenerationParams:
        given = self.max_completion_tokens
        max_tokens = self.max_tokens if given is None else given
        # The same for each choice, so the first one tells it; without it none may be empty.
        is_told = choice == 0 or max_tokens == 0
        return self.params(
            choice=choice,
            max_tokens=max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            prompt_logprobs=self.prompt_logprobs if is_told else None,
        )


class AnswerMessage(msgspec.Struct, frozen=True):
    """What the assistant says."""

    role: Literal["assistant"]
    content: str
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: str | int | None
    token_ids: list[int] | None = None
    tokens: list[GeneratedToken] | None = None
    steps: list[SpeculationStep] | None = None


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a chunk adds to an answer."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer, in a chunk."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    tokens: list[GeneratedToken] | None = None
    steps: list[SpeculationStep] | None = None


def stop_reason(finished: Finished, body: GenerationFields) -> str | int | None:
    """The stop text or token of the request's that ended the answer."""
    if finished.matched_stop:
        return finished.matched_stop
    token_id = finished.matched_stop_token_id
    return token_id if token_id in (body.stop_token_ids or ()) else None


def completion(
    head: Head, body: ChatRequest, choices: list[Choice], prompt_token_ids: list[int] | None
) -> Answer[ChatChoice]:
    """The answer to a request that does not stream."""
    answers = []
    for index, choice in enumerate(choices):
        assert choice.finished is not None
        answers.append(
            ChatChoice(
                index,
                AnswerMessage("assistant", choice.text),
                chat_logprobs(choice.tokens) if body.logprobs else None,
                choice.finished.reason.value,
                stop_reason(choice.finished, body),
                [each.token_id for each in choice.tokens] if body.return_token_ids else None,
                told_tokens(choice.tokens) if body.include_steps else None,
                told_steps(choice.steps) if body.include_steps else None,
            )
        )
    told = answer(head, answers, choices, prompt_token_ids=prompt_token_ids)
    if body.prompt_logprobs is None:
        return told
    scored = prompt_logprobs(choices[0].prompt, body.prompt_logprobs)
    return msgspec.structs.replace(told, prompt_logprobs=scored)


class ChatWriter(ChunkWriter[ChatChunkChoice]):
    """The chunks of a stream."""

    def __init__(self, head: Head, body: ChatRequest, prompt_token_ids: list[int] | None) -> None:
        super().__init__(head, body, body.n, prompt_token_ids=prompt_token_ids)
        self._body = body

    def opening(self, index: int, started: Started) -> ChatChunkChoice:  # noqa: ARG002
        return ChatChunkChoice(index, Delta("assistant", ""), None, None)

    def token(self, index: int, token: Token) -> ChatChunkChoice:
        return ChatChunkChoice(
            index,
            Delta(content=token.text),
            chat_logprobs([token]) if self._body.logprobs else None,
            None,
            token_ids=[token.token_id] if self._body.return_token_ids else None,
            tokens=told_tokens([token]) if self._body.include_steps else None,
        )

    def step(self, index: int, step: Step) -> ChatChunkChoice:
        return ChatChunkChoice(index, Delta(), None, None, steps=told_steps([step]))

    def closing(self, index: int, finished: Finished) -> ChatChunkChoice:
        why = stop_reason(finished, self._body)
        return ChatChunkChoice(index, Delta(), None, finished.reason.value, why)
