"""Requests whose answers are as long as a test needs."""

from collections.abc import AsyncIterator
from dataclasses import replace

from forethought.client import GenerationClient
from forethought.generation import Finished, GenerationParams, GenerationRequest, Step, Token
from tests.stack import Stack, generate

PROMPT = (3, 4, 5)
GREEDY = GenerationParams(temperature=0, ignore_eos=True, max_tokens=40, num_speculative_tokens=3)
SEEDED = replace(GREEDY, temperature=1.0, seed=2**64 - 1)


def asking(params: GenerationParams = GREEDY, **changes) -> GenerationRequest:
    """A request that shows its steps."""
    return GenerationRequest(PROMPT, replace(params, **changes), include_steps=True)


async def text_alone(stack: Stack, **changes) -> str:
    """What the target says without a draft, at temperature 0."""
    answer = await generate(stack.client, asking(num_speculative_tokens=0, **changes))
    return answer.text


class Reader:
    """Reads an answer in the background, and keeps what it has read."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.steps: list[Step] = []
        self.finished: Finished | None = None

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)

    async def read(self, client: GenerationClient, request: GenerationRequest) -> None:
        events: AsyncIterator[object] = client.generate(request, timeout_s=300)
        async for event in events:
            match event:
                case Token():
                    self.tokens.append(event)
                case Step():
                    self.steps.append(event)
                case Finished():
                    self.finished = event
