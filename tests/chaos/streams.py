"""Clients that read answers, and compare each with what it was when nothing was broken."""

import asyncio
import itertools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from forethought.client import GenerationClient
from forethought.errors import ForethoughtError, OverloadedError
from forethought.generation import Finished, GenerationParams, GenerationRequest, Token
from forethought.sampling.types import VerificationMode

GREEDY = GenerationParams(temperature=0, ignore_eos=True, num_speculative_tokens=3)
COUPLED = replace(GREEDY, temperature=1.0, seed=5, verification_mode=VerificationMode.COUPLED)
# A round that has no draft draws other numbers than one that has (docs/exactness.md,
# "Reproducibility"), so this one never has any.
REJECTION = replace(GREEDY, temperature=1.0, seed=6, num_speculative_tokens=0)


def requests(max_tokens: int) -> dict[str, GenerationRequest]:
    """One of each kind, from several beginnings."""
    return {
        f"{name} {first}": GenerationRequest((first, 4, 5), replace(params, max_tokens=max_tokens))
        for name, params in (("greedy", GREEDY), ("coupled", COUPLED), ("rejection", REJECTION))
        for first in range(3, 7)
    }


@dataclass
class Findings:
    """What all clients have seen."""

    num_streams: int = 0
    num_tokens: int = 0
    num_refused: int = 0
    """For want of room, by readers who come again."""
    longest_pause_s: float = 0.0
    failures: list[str] = field(default_factory=list)


async def read(
    client: GenerationClient, request: GenerationRequest, findings: Findings
) -> tuple[int, ...]:
    """The token ids of an answer.

    Raises:
        ValueError: an index is missing or repeated, or the end is.
        ForethoughtError: the answer is an error.
    """
    token_ids: list[int] = []
    is_finished = False
    last = time.perf_counter()
    async for event in client.generate(request, timeout_s=300):
        now = time.perf_counter()
        findings.longest_pause_s = max(findings.longest_pause_s, now - last)
        last = now
        match event:
            case Token():
                if event.index != len(token_ids):
                    raise ValueError(f"token {event.index} came as number {len(token_ids)}")
                token_ids.append(event.token_id)
            case Finished():
                is_finished = True
    if not is_finished:
        raise ValueError("the stream ended before the answer did")
    return tuple(token_ids)


@dataclass
class Readers:
    """Clients that read one answer after the other, until they are told to stop."""

    clients: Sequence[GenerationClient]
    """Each is used by every so many-th reader."""
    requests: Mapping[str, GenerationRequest]
    expected: Mapping[str, Sequence[int]]
    pause_s: float = 0.0
    """Before each answer."""
    come_again: bool = False
    """Whether they bear to be told so where there is no room."""
    findings: Findings = field(default_factory=Findings)
    _is_over: bool = False

    def start(self, num_readers: int, seed: int) -> list[asyncio.Task[None]]:
        """All readers; each ends with the answer that it reads when `stop` is called."""
        clients = itertools.islice(itertools.cycle(self.clients), num_readers)
        return [
            asyncio.create_task(self._read_on(client, random.Random(f"{seed}/{number}")))
            for number, client in enumerate(clients)
        ]

    def stop(self) -> None:
        """Lets nobody begin another answer."""
        self._is_over = True

    async def _read_on(self, client: GenerationClient, rng: random.Random) -> None:
        for _ in itertools.takewhile(lambda _: not self._is_over, itertools.count()):
            name = rng.choice(sorted(self.requests))
            await asyncio.sleep(self.pause_s)
            try:
                token_ids = await read(client, self.requests[name], self.findings)
            except (ForethoughtError, ValueError) as error:
                if self.come_again and isinstance(error, OverloadedError):
                    self.findings.num_refused += 1
                    await asyncio.sleep(error.retry_after_s)
                    continue
                self.findings.failures.append(f"{name}: {type(error).__name__}: {error}")
                continue
            self.findings.num_streams += 1
            self.findings.num_tokens += len(token_ids)
            if token_ids != self.expected[name]:
                pairs = zip(token_ids, self.expected[name], strict=False)
                where = next((i for i, (a, b) in enumerate(pairs) if a != b), len(token_ids))
                self.findings.failures.append(f"{name}: another text from token {where} on")
