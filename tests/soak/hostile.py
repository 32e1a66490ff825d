"""Clients that mean harm, or do harm without meaning it. Each begins anew when it is through.

What they are answered does not matter, as long as it says that it is their fault or that there is
no room: an INTERNAL or UNKNOWN is a failure of the deployment.

They run in a process of their own, `python -m tests.soak.hostile`: making messages of many
megabytes holds up whoever does it. Like each tier, it is a session of its own: Linux shares
processors out between sessions, so that what it takes is not that of the clients who are measured.
"""

import asyncio
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc

from forethought.local.processes.process import launcher
from forethought.v1 import common_pb2, target_pb2
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from forethought.v1.target_pb2_grpc import TargetServiceStub

TIMEOUT_S = 30
HOLD_S = 3.0
"""For which a stream is left unread, and a session idle."""
_SAMPLING = common_pb2.SamplingParams(temperature=1, top_p=1, repetition_penalty=1)
# So that little is under way between a server and a client that reads nothing.
_OPTIONS = (
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 16384),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class HostileClients:
    """The process that they run in.

    Args:
        orchestrator: its address.
        target: its address.
    """

    orchestrator: str
    target: str

    async def attack(self, seed: int, duration_s: float) -> Counter[str]:
        """How often each kind of client was answered with which code, once all have ended."""
        words = [self.orchestrator, self.target, str(seed), str(duration_s)]
        process = await asyncio.create_subprocess_exec(
            *launcher(),
            *(sys.executable, "-m", "tests.soak.hostile", *words),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            said, _ = await process.communicate()
        finally:
            with suppress(ProcessLookupError):
                process.kill()
        return Counter(json.loads(said))


def failures_of(answers: Counter[str]) -> list[str]:
    """What a deployment should not have answered."""
    return [answer for answer in answers if answer.endswith(("INTERNAL", "UNKNOWN"))]


@dataclass
class Hostile:
    """All hostile clients of one deployment.

    Args:
        orchestrator: its address.
        target: its address.
    """

    orchestrator: str
    target: str
    answers: Counter[str] = field(default_factory=Counter)
    """How often each client was answered with which code."""
    _is_over: bool = False

    async def attack(self, seed: int, duration_s: float) -> None:
        """Each kind of client once, again and again."""
        kinds = (
            self.send_long_texts,
            self.send_huge_texts,
            self.send_many_messages,
            self.send_bad_fields,
            self.detokenize_many_tokens,
            self.leave_streams_unread,
            self.leave_in_the_middle,
            self.cancel_at_once,
            self.resume_from_nowhere,
            self.leave_sessions_idle,
        )
        async with asyncio.TaskGroup() as group:
            for kind in kinds:
                group.create_task(self._repeat(kind, seed))
            await asyncio.sleep(duration_s)
            self._is_over = True

    async def send_long_texts(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """As long as a text may be, from several tenants at a time."""
        text = "ab" * 30_000
        await asyncio.gather(
            *(
                self._read(stub, pb.GenerateRequest(text=text, tenant=f"long {rng.random()}"))
                for _ in range(8)
            )
        )

    async def send_huge_texts(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """Longer than any message that is received."""
        text = "1" * rng.choice((600_000, 4_000_000, 15_000_000))
        await self._read(stub, pb.GenerateRequest(text=text))

    async def send_many_messages(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """Conversations of nothing."""
        number = rng.choice((100, 3_000, 60_000, 300_000))
        said = pb.Conversation(messages=[pb.ChatMessage(content="a")] * number)
        params = pb.GenerationParams(max_tokens=1)
        await self._read(stub, pb.GenerateRequest(conversation=said, params=params))

    async def send_bad_fields(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """Values out of every range, and names of any length."""
        params = pb.GenerationParams(
            temperature=rng.choice((-1.0, float("nan"), 1.0)),
            max_tokens=rng.choice((0, 2**32 - 1)),
            stop=[""] * rng.choice((0, 1000)),
            logprobs=rng.choice((0, 99)),
        )
        name = "n\n" * rng.choice((1, 10_000))
        await self._read(
            stub, pb.GenerateRequest(text="abc", params=params, request_id=name, tenant=name)
        )

    async def detokenize_many_tokens(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """Up to ten million."""
        token_ids = [3] * rng.choice((60_000, 500_000, 10_000_000))
        await stub.Detokenize(pb.DetokenizeRequest(token_ids=token_ids), timeout=TIMEOUT_S)

    async def leave_streams_unread(self, stub: GenerationServiceStub, _: random.Random) -> None:
        """Without a deadline."""
        calls = [stub.Generate(_long_answer("unread")) for _ in range(4)]
        await asyncio.sleep(HOLD_S)
        for call in calls:
            call.cancel()

    async def leave_in_the_middle(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """Without a word: the connection is closed."""
        call = stub.Generate(_long_answer("leaving"), timeout=TIMEOUT_S)
        for _ in range(rng.randrange(1, 10)):
            await call.read()

    async def cancel_at_once(self, stub: GenerationServiceStub, _: random.Random) -> None:
        """Many calls, before they are answered."""
        calls = [stub.Generate(_long_answer("cancelling")) for _ in range(20)]
        await asyncio.sleep(0.02)
        for call in calls:
            call.cancel()

    async def resume_from_nowhere(self, stub: GenerationServiceStub, rng: random.Random) -> None:
        """A session of its own, from tokens that it never had."""
        call = stub.Generate(_long_answer("resuming"), timeout=TIMEOUT_S)
        started = (await call.read()).started
        next_index = rng.choice((10_000, 2**32 - 1))
        resume = pb.Resume(session_id=started.session_id, next_index=next_index)
        await self._read(stub, pb.GenerateRequest(resume=resume, tenant="resuming"))

    async def leave_sessions_idle(self, _: GenerationServiceStub, rng: random.Random) -> None:
        """At the target itself."""
        async with _stub(self.target, TargetServiceStub) as target:
            calls = [target.Verify(timeout=TIMEOUT_S) for _ in range(4)]
            for number, call in enumerate(calls):
                name = f"idle {rng.random()} {number}"
                opening = common_pb2.SessionOpen(
                    session_id=name, token_ids=[3, 4, 5], sampling=_SAMPLING
                )
                await call.write(target_pb2.VerifyRequest(open=opening))
                await call.read()
            await asyncio.sleep(HOLD_S)

    async def _read(self, stub: GenerationServiceStub, request: pb.GenerateRequest) -> None:
        async for _ in stub.Generate(request, timeout=TIMEOUT_S):
            pass

    async def _repeat(
        self, kind: Callable[[GenerationServiceStub, random.Random], Awaitable[None]], seed: int
    ) -> None:
        rng = random.Random(f"{seed}/{kind.__name__}")
        for _ in itertools.takewhile(lambda _: not self._is_over, itertools.count()):
            code = grpc.StatusCode.OK
            async with _stub(self.orchestrator, GenerationServiceStub) as stub:
                try:
                    await kind(stub, rng)
                except grpc.aio.AioRpcError as error:
                    code = error.code()
            self.answers[f"{kind.__name__}: {code.name}"] += 1
            await asyncio.sleep(0.2 + rng.random())


def _long_answer(tenant: str) -> pb.GenerateRequest:
    params = pb.GenerationParams(max_tokens=2000, ignore_eos=True, logprobs=12)
    return pb.GenerateRequest(text="abc", params=params, tenant=tenant)


@asynccontextmanager
async def _stub(address: str, kind: Callable[[Any], Any]) -> AsyncGenerator[Any]:
    """On a connection of its own, which is closed whatever is under way."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield kind(channel)


async def main(orchestrator: str, target: str, seed: str, duration_s: str) -> None:
    """All clients, and in the end what they were answered."""
    hostile = Hostile(orchestrator, target)
    await hostile.attack(int(seed), float(duration_s))
    sys.stdout.write(json.dumps(hostile.answers))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
