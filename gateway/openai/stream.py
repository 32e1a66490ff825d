"""A streamed answer of chat or completions: chunks of choices, usage, and the end."""

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from forethought.generation import (
    Finished,
    GenerationEvent,
    PromptToken,
    Started,
    Step,
    Token,
)
from gateway.openai.choices import Choice, ChoiceEvent, answer_usage
from gateway.openai.logprobs import PromptLogprobs
from gateway.openai.sampling import SamplingFields
from gateway.openai.usage import Metrics, Usage, metrics, total_usage
from gateway.web.errors import HttpError
from gateway.web.streaming import DONE, sse

PartT = TypeVar("PartT", bound=msgspec.Struct)


class Head(msgspec.Struct, frozen=True):
    """What all chunks of an answer have in common."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class Chunk(msgspec.Struct, Generic[PartT], frozen=True, omit_defaults=True):
    """One event of the stream."""

    id: str
    object: str
    created: int
    model: str
    choices: Sequence[PartT]
    usage: Usage | None
    system_fingerprint: str = ""
    metrics: Metrics | None = None
    prompt_token_ids: list[int] | None = None


class Answer(msgspec.Struct, Generic[PartT], frozen=True, omit_defaults=True):
    """The whole answer of a request that does not stream."""

    id: str
    object: str
    created: int
    model: str
    choices: list[PartT]
    usage: Usage
    system_fingerprint: str
    metrics: Metrics | None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None


def answer(
    head: Head,
    parts: list[PartT],
    choices: Sequence[Choice],
    num_prompts: int = 1,
    prompt_token_ids: list[int] | None = None,
) -> Answer[PartT]:
    """Of choices that have ended.

    Args:
        head: of the answer.
        parts: what is said of each choice.
        choices: over all prompts.
        num_prompts: that the choices belong to.
        prompt_token_ids: if asked for.
    """
    last = choices[0].finished
    return Answer(
        head.id,
        head.object,
        head.created,
        head.model,
        parts,
        answer_usage(choices, num_prompts),
        head.system_fingerprint,
        metrics(last) if last is not None and len(choices) == 1 else None,
        prompt_token_ids,
    )


class ChunkWriter(Generic[PartT]):
    """Makes chunks of events. A route says what its choices look like.

    Args:
        head: of all chunks.
        fields: of the request.
        num_choices: over all prompts.
        num_prompts: that the choices belong to.
        prompt_token_ids: told with the first chunk of each choice.
    """

    def __init__(
        self,
        head: Head,
        fields: SamplingFields,
        num_choices: int,
        num_prompts: int = 1,
        prompt_token_ids: list[int] | None = None,
    ) -> None:
        self.head = head
        self._fields = fields
        self._started: list[Started | None] = [None] * num_choices
        self._finished: list[Finished | None] = [None] * num_choices
        self._counts = [0] * num_choices
        self._openings: dict[int, bytes] = {}  # chunks that leave with the next one
        self._prompts: list[list[PromptToken]] = [[] for _ in range(num_choices)]
        self._num_prompts = num_prompts
        self._prompt_token_ids = prompt_token_ids
        self._metrics: Metrics | None = None

    def opening(self, index: int, started: Started) -> PartT | None:
        """What is said before the first token of a choice."""
        raise NotImplementedError

    def prompt(self, index: int, tokens: list[PromptToken]) -> PartT | None:  # noqa: ARG002
        """All tokens of a choice's prompt, where they were asked for."""
        return None

    def token(self, index: int, token: Token) -> PartT:
        """A token of a choice."""
        raise NotImplementedError

    def step(self, index: int, step: Step) -> PartT:
        """A round of a choice, before its tokens."""
        raise NotImplementedError

    def closing(self, index: int, finished: Finished) -> PartT:
        """Why a choice has ended."""
        raise NotImplementedError

    def on(self, event: ChoiceEvent) -> bytes:
        """The opening of a choice leaves with its first token: clients that take the first chunk
        for that measure what they mean."""
        told = self._told(event.index, event.event)
        if isinstance(event.event, Started):
            self._openings[event.index] = told
            return b""
        return self._openings.pop(event.index, b"") + told if told else b""

    def _told(self, index: int, what: GenerationEvent) -> bytes:
        match what:
            case Token():
                self._counts[index] += 1
                return self._chunk(self.token(index, what))
            case Step():
                return self._chunk(self.step(index, what))
            case PromptToken():
                part = self._on_prompt(index, what)
                return b"" if part is None else self._chunk(part)
            case Started():
                self._started[index] = what
                part, ids = self.opening(index, what), self._prompt_token_ids
                return b"" if part is None else self._chunk(part, prompt_token_ids=ids)
            case Finished():
                self._finished[index] = what
                self._counts[index] = what.num_output_tokens
                if len(self._counts) == 1:
                    self._metrics = metrics(what)
                shown = None if self._fields.includes_usage else self._metrics
                return self._chunk(self.closing(index, what), metrics=shown, is_last=True)
        return b""

    def _on_prompt(self, index: int, token: PromptToken) -> PartT | None:
        """All at once, with the last of them."""
        tokens, started = self._prompts[index], self._started[index]
        tokens.append(token)
        is_whole = started is not None and len(tokens) == started.num_prompt_tokens
        return self.prompt(index, tokens) if is_whole else None

    def end(self) -> bytes:
        if not self._fields.includes_usage:
            return DONE
        head = self.head
        last = Chunk[PartT](
            head.id,
            head.object,
            head.created,
            head.model,
            (),
            self._usage(),
            head.system_fingerprint,
            self._metrics,
        )
        return sse(last) + DONE

    def fail(self, error: HttpError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + DONE

    def _chunk(
        self,
        part: PartT,
        *,
        metrics: Metrics | None = None,
        prompt_token_ids: list[int] | None = None,
        is_last: bool = False,
    ) -> bytes:
        head = self.head
        return sse(
            Chunk(
                head.id,
                head.object,
                head.created,
                head.model,
                (part,),
                self._usage() if self._fields.has_continuous_usage else None,
                head.system_fingerprint if is_last else "",
                metrics,
                prompt_token_ids,
            )
        )

    def _usage(self) -> Usage:
        num_tokens = sum(self._counts)
        return total_usage(self._started, self._finished, num_tokens, self._num_prompts)
