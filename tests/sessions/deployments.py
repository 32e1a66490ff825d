"""Several orchestrators with one store, in front of the same tiers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from forethought.client import GenerationClient
from forethought.generation import GenerationParams, GenerationRequest, Token
from forethought.rpc.serving.server import Server
from forethought.sampling.types import VerificationMode
from forethought.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from orchestrator.request.admission import AdmissionLimits
from orchestrator.request.plan import PolicyKind
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions
from tests.lifecycle.gates import Gate, gated
from tests.stack import LoadedModel, Stack, running_server, running_stack

PROMPT = (3, 4, 5)
NUM_TOKENS = 24
_COMMON = {"max_tokens": NUM_TOKENS, "ignore_eos": True, "num_speculative_tokens": 3}
GREEDY = GenerationParams(temperature=0, **_COMMON)
COUPLED = GenerationParams(seed=2**64 - 1, verification_mode=VerificationMode.COUPLED, **_COMMON)
SEEDED = GenerationParams(seed=2**64 - 1, **_COMMON)
BLOCK = replace(SEEDED, verification_mode=VerificationMode.BLOCK)
ALL_MODES = {
    "greedy": GREEDY,
    "coupled": COUPLED,
    "seeded rejection": SEEDED,
    "seeded block": BLOCK,
}
TENANT = "a tenant"
PATIENT_S = 10.0  # of the store: the machine may be busy, and most tests are not about time


def asking(params: GenerationParams = SEEDED, **changes) -> GenerationRequest:
    """A request of the tenant."""
    return GenerationRequest(PROMPT, params, tenant=TENANT, **changes)


@dataclass
class Orchestrator:
    """One of several."""

    server: Server
    sessions: Sessions

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    async def kill(self) -> None:
        """Ends all calls at once, as a process that dies."""
        await self.server._server.stop(None)


@dataclass
class Deployment:
    """Tiers whose target computes a pass when it is let, and orchestrators before them."""

    stack: Stack
    gate: Gate
    orchestrators: list[Orchestrator]

    @property
    def addresses(self) -> list[str]:
        return [each.address for each in self.orchestrators]


@asynccontextmanager
async def orchestrator_beside(
    stack: Stack,
    url: str,
    policy: PolicyKind = PolicyKind.FIXED,
    timeout_s: float = PATIENT_S,
) -> AsyncIterator[Orchestrator]:
    """One more orchestrator before the tiers of a stack."""
    sessions = Sessions(url, "beside", timeout_s=timeout_s)
    deployment = replace(stack.deployment, policy=policy)
    servicer = GenerationServicer(deployment, stack.tiers, AdmissionLimits(), sessions)
    async with running_server(
        lambda services: add_GenerationServiceServicer_to_server(servicer, services)
    ) as server:
        yield Orchestrator(server, sessions)
    await sessions.close()


@asynccontextmanager
async def deployed(
    target: LoadedModel,
    draft: LoadedModel,
    url: str,
    num_orchestrators: int = 2,
    timeout_s: float = PATIENT_S,
) -> AsyncIterator[Deployment]:
    """A deployment; its gate is open."""
    target, gate = gated(target)
    gate.open()
    async with AsyncExitStack() as cleanup:
        stack = await cleanup.enter_async_context(running_stack(target, draft.proposer()))
        cleanup.callback(gate.open)
        orchestrators = [
            await cleanup.enter_async_context(orchestrator_beside(stack, url, timeout_s=timeout_s))
            for _ in range(num_orchestrators)
        ]
        yield Deployment(stack, gate, orchestrators)


class Reading:
    """An answer that is read in the background."""

    def __init__(self, client: GenerationClient, request: GenerationRequest) -> None:
        self.events = []
        self.task = asyncio.create_task(self._read(client, request))

    async def _read(self, client: GenerationClient, request: GenerationRequest) -> None:
        async for event in client.generate(request, timeout_s=60):
            self.events.append(event)

    @property
    def tokens(self) -> list[Token]:
        return [event for event in self.events if isinstance(event, Token)]

    @property
    def session_id(self) -> str:
        return self.events[0].session_id
