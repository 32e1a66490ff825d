"""`/v1/completions`."""

from collections.abc import Sequence
from functools import cached_property
from itertools import chain

import msgspec

from forethought.client import GenerationClient
from forethought.generation import (
    Finished,
    GenerationRequest,
    PromptToken,
    Started,
    Step,
    Token,
    most_scored_tokens,
)
from forethought.sampling.params import MAX_TOP_LOGPROBS
from gateway.openai.chat import stop_reason
from gateway.openai.choices import Choice
from gateway.openai.logprobs import (
    CompletionLogprobs,
    PromptLogprobs,
    completion_logprobs,
    placed,
    prompt_logprobs,
)
from gateway.openai.sampling import SamplingFields, check_counts, other_fields
from gateway.openai.steps import GeneratedToken, SpeculationStep, told_steps, told_tokens
from gateway.openai.stream import Answer, ChunkWriter, Head, answer
from gateway.web.errors import invalid

OBJECT = "text_completion"
DEFAULT_MAX_TOKENS = 16
"""OpenAI's. Elsewhere the deployment chooses."""
MAX_PROMPTS = 128
OTHERS = other_fields(set(), {"prompt_embeds": (), "suffix": ("",), "best_of": (1,)})


class CompletionRequest(SamplingFields, frozen=True, kw_only=True, dict=True):
    """The body of a request."""

    prompt: str | list[str | int | list[int]]
    max_tokens: int | None = DEFAULT_MAX_TOKENS
    logprobs: int | None = None
    echo: bool = False
    add_special_tokens: bool = True

    def check(self) -> None:
        super().check()
        if not 1 <= len(self.prompts) <= MAX_PROMPTS:
            raise invalid("prompt", f"must hold from 1 to {MAX_PROMPTS} prompts")
        if len({type(each) for each in self.prompts}) > 1:
            raise invalid("prompt", "must hold texts, or token ids, or lists of token ids")
        for prompt in self.prompts:
            if isinstance(prompt, list) and prompt and not 0 <= min(prompt) <= max(prompt) < 2**32:
                raise invalid("prompt", "must hold token ids that exist")
        check_counts(logprobs=self.logprobs)

    @cached_property
    def prompts(self) -> list[str | list[int]]:
        """One or several."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [each for each in self.prompt if isinstance(each, int)]
        if ids and len(ids) == len(self.prompt):
            return [ids]
        return [[each] if isinstance(each, int) else each for each in self.prompt]

    @property
    def num_prompt_logprobs(self) -> int | None:
        """Most likely tokens to ask for at each place of the prompts; None: their tokens are not
        told. Those that an echo has are told with it."""
        return max(self._scores.values(), default=None)

    @property
    def _scores(self) -> dict[str, int]:
        """The same, by the field that wants it."""
        wanted = {"prompt_logprobs": self.prompt_logprobs}
        if self.echo:
            least = 0 if self.max_tokens == 0 else None
            wanted["logprobs"] = least if self.logprobs is None else self.logprobs
        return {name: number for name, number in wanted.items() if number is not None}

    def check_scored(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuses to tell more of prompts than an answer should hold. Raises HttpError."""
        if self.num_prompt_logprobs is None:
            return
        for name, number in self._scores.items():
            if number > MAX_TOP_LOGPROBS:
                raise invalid(name, f"must be at most {MAX_TOP_LOGPROBS}")
        num_tokens = self.n * sum(map(len, prompts))
        most = most_scored_tokens(self.num_prompt_logprobs)
        if num_tokens > most:
            with_top = f"with {self.num_prompt_logprobs} at each place"
            why = f"{with_top} prompts may have {most} tokens over all choices, not {num_tokens}"
            raise invalid(self.name_of("params.prompt_logprobs"), why)

    def requests(
        self, prompts: Sequence[str | list[int]], request_id: str
    ) -> list[GenerationRequest]:
        """One for each choice of each prompt."""
        return [
            GenerationRequest(
                prompt,
                self.params(
                    choice=choice,
                    max_tokens=self.max_tokens,
                    logprobs=self.logprobs,
                    prompt_logprobs=self.num_prompt_logprobs,
                ),
                request_id,
                self.include_steps,
            )
            for prompt in prompts
            for choice in range(self.n)
        ]

    def name_of(self, field: str) -> str:
        """What the route calls a field of the service."""
        names = {
            "prompt.text": "prompt",
            "text": "prompt",
            "prompt.token_ids": "prompt",
            "token_ids": "prompt",
            "params.prompt_logprobs": max(self._scores, key=self._scores.__getitem__, default=""),
        }
        return names.get(field, field.removeprefix("params."))


class CompletionChoice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One completion, or a part of it in a chunk."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None
    stop_reason: str | int | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    prompt_logprobs: PromptLogprobs | None = None
    tokens: list[GeneratedToken] | None = None
    steps: list[SpeculationStep] | None = None


class Echo(msgspec.Struct, frozen=True):
    """What of the prompts is told with the completions, prompt by prompt; may be empty."""

    texts: list[str] = []
    token_ids: list[list[int]] = []


async def look_at(
    client: GenerationClient, body: CompletionRequest
) -> tuple[Sequence[str | list[int]], Echo]:
    """The prompts as they are generated from, and what is told of them.

    Raises:
        ForethoughtError: of the service.
        HttpError: more is wanted of them than an answer should hold.
    """
    prompts = body.prompts
    texts: list[str] = []
    if body.echo:
        texts = [
            each if isinstance(each, str) else await client.detokenize(each) for each in prompts
        ]
    is_scored = body.num_prompt_logprobs is not None
    if body.return_token_ids or is_scored or not body.add_special_tokens:
        ids = [await _tokens(client, each, body) for each in prompts]
        body.check_scored(ids)
        return ids, Echo(texts, ids if body.return_token_ids else [])
    return prompts, Echo(texts)


async def _tokens(
    client: GenerationClient, prompt: str | list[int], body: CompletionRequest
) -> list[int]:
    if isinstance(prompt, list):
        return prompt
    found = await client.tokenize_with_texts(
        prompt, omits_special_tokens=not body.add_special_tokens
    )
    return list(found.token_ids)


def completion(
    head: Head, body: CompletionRequest, choices: list[Choice], echo: Echo
) -> Answer[CompletionChoice]:
    """The answer to a request that does not stream."""
    answers = []
    for index, choice in enumerate(choices):
        assert choice.finished is not None
        prompt = index // body.n
        before = echo.texts[prompt] if echo.texts else ""
        scored = body.prompt_logprobs
        answers.append(
            CompletionChoice(
                index,
                before + choice.text,
                _logprobs(body, choice, before),
                choice.finished.reason.value,
                stop_reason(choice.finished, body),
                [each.token_id for each in choice.tokens] if body.return_token_ids else None,
                echo.token_ids[prompt] if echo.token_ids else None,
                None if scored is None else prompt_logprobs(choice.prompt, scored),
                told_tokens(choice.tokens) if body.include_steps else None,
                told_steps(choice.steps) if body.include_steps else None,
            )
        )
    return answer(head, answers, choices, len(body.prompts))


def _logprobs(body: CompletionRequest, choice: Choice, before: str) -> CompletionLogprobs | None:
    """Of a choice whose text follows `before`, with those of the prompt if that is echoed."""
    if body.logprobs is None:
        return None
    prompt = placed(choice.prompt if body.echo else (), 0)
    return completion_logprobs(chain(prompt, placed(choice.tokens, len(before))), body.logprobs)


class CompletionWriter(ChunkWriter[CompletionChoice]):
    """The chunks of a stream."""

    def __init__(self, head: Head, body: CompletionRequest, echo: Echo) -> None:
        num_prompts = len(body.prompts)
        super().__init__(head, body, num_prompts * body.n, num_prompts)
        self._body = body
        self._echo = echo
        self._offsets = [
            len(text) for text in echo.texts or [""] * num_prompts for _ in range(body.n)
        ]

    def opening(self, index: int, started: Started) -> CompletionChoice | None:  # noqa: ARG002
        echo, prompt = self._echo, index // self._body.n
        if not (echo.texts or echo.token_ids):
            return None
        text = echo.texts[prompt] if echo.texts else ""
        ids = echo.token_ids[prompt] if echo.token_ids else None
        return CompletionChoice(index, text, None, None, prompt_token_ids=ids)

    def prompt(self, index: int, tokens: list[PromptToken]) -> CompletionChoice | None:
        if not self._body.echo or self._body.logprobs is None:
            return None
        told = completion_logprobs(placed(tokens, 0), self._body.logprobs)
        return CompletionChoice(index, "", told, None)

    def token(self, index: int, token: Token) -> CompletionChoice:
        logprobs = self._body.logprobs
        offset = self._offsets[index]
        self._offsets[index] += len(token.text)
        return CompletionChoice(
            index,
            token.text,
            None if logprobs is None else completion_logprobs([(offset, token)], logprobs),
            None,
            token_ids=[token.token_id] if self._body.return_token_ids else None,
            tokens=told_tokens([token]) if self._body.include_steps else None,
        )

    def step(self, index: int, step: Step) -> CompletionChoice:
        return CompletionChoice(index, "", None, None, steps=told_steps([step]))

    def closing(self, index: int, finished: Finished) -> CompletionChoice:
        why = stop_reason(finished, self._body)
        return CompletionChoice(index, "", None, finished.reason.value, why)
