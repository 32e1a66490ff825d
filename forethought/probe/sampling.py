"""Many short answers of both arms, in turns and side by side.

Neighbouring requests belong to different arms, so whatever changes in the deployment meanwhile
changes for both. Every request has a seed of its own: two answers with the same seed would have
draws in common, and samples that know of each other are no samples.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from forethought.bench.closed_loop import run_burst
from forethought.bench.generation_arm import Generates
from forethought.errors import OverloadedError
from forethought.generation import (
    Finished,
    GenerationParams,
    GenerationRequest,
    SpeculationStatistics,
    Token,
)
from forethought.probe.homogeneity import Outcome
from forethought.probe.prompts import Prompt
from forethought.probe.verdict import Answers, PromptAnswers
from forethought.sampling.params import MAX_SEED

NUM_ARMS = 2


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is asked, how often, and how much of it at a time."""

    prompts: Sequence[Prompt]
    params: GenerationParams  # of the speculative arm, with the seed of the first request
    num_samples: int  # of each arm and prompt
    concurrency: int
    timeout_s: float  # of each request, and of waiting for room for it

    @property
    def num_requests(self) -> int:
        """Of both arms together."""
        return self.num_samples * len(self.prompts) * NUM_ARMS


@dataclass(frozen=True, slots=True)
class Answer:
    """One sample."""

    place: tuple[int, bool]  # prompt, and whether it is of the speculative arm
    token_ids: Outcome
    speculation: SpeculationStatistics


@dataclass(frozen=True, slots=True)
class Samples:
    """All answers, prompt by prompt, and the texts of the tokens in them."""

    answers: tuple[PromptAnswers, ...]
    texts: dict[int, str]


def params_of_arm(params: GenerationParams, *, speculative: bool) -> GenerationParams:
    """The arms differ in nothing else than K, which is 0 in the plain one."""
    return params if speculative else replace(params, num_speculative_tokens=0)


async def sample_both_arms(
    client: Generates, sampling: Sampling, on_answer: Callable[[Answer], None]
) -> Samples:
    """Sends all requests, so many at a time.

    Raises:
        ForethoughtError: a request failed; the others are cancelled.
    """
    texts: dict[int, str] = {}

    async def send(index: int) -> Answer:
        turn, place = divmod(index, len(sampling.prompts) * NUM_ARMS)
        prompt, arm = divmod(place, NUM_ARMS)
        speculative = bool((arm + turn) % NUM_ARMS)  # who goes first changes
        params = params_of_arm(sampling.params, speculative=speculative)
        seed = ((sampling.params.seed or 0) + index) % (MAX_SEED + 1)
        request = GenerationRequest(sampling.prompts[prompt], replace(params, seed=seed))
        token_ids, speculation = await _ask(client, request, sampling.timeout_s, texts)
        return Answer((prompt, speculative), token_ids, speculation)

    _, answers = await run_burst(send, sampling.concurrency, sampling.num_requests, on_answer)
    return Samples(
        tuple(
            PromptAnswers(_gather(answers, (prompt, False)), _gather(answers, (prompt, True)))
            for prompt in range(len(sampling.prompts))
        ),
        texts,
    )


async def _ask(
    client: Generates, request: GenerationRequest, timeout_s: float, texts: dict[int, str]
) -> tuple[Outcome, SpeculationStatistics]:
    """Asks until there is room: a probe shares the deployment with those whom it is there for.

    Asking again draws the same numbers, and whether there is room does not depend on them.
    """
    give_up_at = perf_counter() + timeout_s
    while True:
        try:
            return await _ask_once(client, request, timeout_s, texts)
        except OverloadedError as error:
            if perf_counter() + error.retry_after_s > give_up_at:
                raise
            await asyncio.sleep(error.retry_after_s)


async def _ask_once(
    client: Generates, request: GenerationRequest, timeout_s: float, texts: dict[int, str]
) -> tuple[Outcome, SpeculationStatistics]:
    token_ids: list[int] = []
    speculation = SpeculationStatistics()
    async for event in client.generate(request, timeout_s=timeout_s):
        if isinstance(event, Token):
            token_ids.append(event.token_id)
            texts.setdefault(event.token_id, event.text)
        elif isinstance(event, Finished):
            speculation = event.speculation
    return tuple(token_ids), speculation


def _gather(answers: Sequence[Answer], place: tuple[int, bool]) -> Answers:
    own = [answer for answer in answers if answer.place == place]
    speculations = [answer.speculation for answer in own]
    return Answers(
        tuple(answer.token_ids for answer in own),
        sum(speculation.num_draft_tokens for speculation in speculations),
        sum(speculation.num_accepted_tokens for speculation in speculations),
        sum(speculation.num_draft_tokens > 0 for speculation in speculations),
        sum(speculation.num_draft_failures for speculation in speculations),
    )
