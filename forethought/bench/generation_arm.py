"""Requests to a GenerationService, timed where the client sees them."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Protocol
from uuid import uuid4

from forethought.bench.closed_loop import Sample, Send
from forethought.generation import (
    ChatMessage,
    Finished,
    GenerationEvent,
    GenerationParams,
    GenerationRequest,
    Token,
)

Prompt = str | Sequence[int] | Sequence[ChatMessage]


class Generates(Protocol):
    """What is asked of a client: `forethought.client.GenerationClient` is one."""

    def generate(
        self, request: GenerationRequest, *, timeout_s: float | None = None
    ) -> AsyncIterator[GenerationEvent]:
        """Streams the answer."""


def generation_sender(
    client: Generates,
    prompts: Sequence[Prompt],
    params: GenerationParams,
    timeout_s: float,
    *,
    are_apart: bool = False,
) -> Send:
    """Sends prompt after prompt, from the first again after the last.

    Request i has the seed `params.seed` + i, so that all arms draw the same random numbers.
    Requests that are apart have a tenant each: a prompt that was sent before is computed again.
    """

    async def send(index: int) -> Sample:
        seed = None if params.seed is None else (params.seed + index) % 2**64
        tenant = uuid4().hex if are_apart else ""
        own = replace(params, seed=seed)
        request = GenerationRequest(prompts[index % len(prompts)], own, tenant=tenant)
        return await time_generation(client, request, timeout_s)

    return send


async def time_generation(
    client: Generates, request: GenerationRequest, timeout_s: float
) -> Sample:
    """Runs a request to its end.

    Raises:
        ForethoughtError: it failed.
    """
    started = perf_counter()
    times_s: list[float] = []
    speculation = None
    async for event in client.generate(request, timeout_s=timeout_s):
        if isinstance(event, Token):
            times_s.append(perf_counter() - started)
        elif isinstance(event, Finished):
            speculation = event.speculation
    ends_s = times_s or [perf_counter() - started]
    return Sample(ends_s[0], ends_s[-1], len(times_s), speculation)
