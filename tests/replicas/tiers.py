"""A deployment inside the test process with as many replicas of each tier as a test wants."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace

from draft_service.proposer import Proposer
from draft_service.servicer import DraftServicer
from forethought.client import GenerationClient
from forethought.deployment import Standing
from forethought.errors import DrainingError
from forethought.rpc.serving.server import Server
from forethought.sampling.types import VerificationMode
from forethought.v1.deployment_pb2_grpc import add_DeploymentServiceServicer_to_server
from forethought.v1.draft_pb2_grpc import DraftServiceStub, add_DraftServiceServicer_to_server
from forethought.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from forethought.v1.target_pb2_grpc import TargetServiceStub, add_TargetServiceServicer_to_server
from orchestrator.__main__ import another_model, find_target, unusable_draft
from orchestrator.deployment_servicer import DeploymentServicer
from orchestrator.generator import Tiers
from orchestrator.replicas.replica import DRAFT, TARGET, Replica
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.replicas.replica_watch import WatchOptions, watching
from orchestrator.request.admission import AdmissionLimits
from orchestrator.request.plan import Deployment, PolicyKind
from orchestrator.servicer import GenerationServicer
from orchestrator.tiers.patience import DraftPatience, ReopenOptions
from target_service.servicer import TargetServicer
from tests.lifecycle.gates import Gate, gated
from tests.lifecycle.requests import GREEDY, SEEDED
from tests.lifecycle.servers import serving_at, stop_abruptly
from tests.ports import free_port
from tests.stack import DEFAULT_K, LIMITS, MAX_K, LoadedModel
from tests.waiting import NOTHING_HELD, draft_load, target_load, until

DRAINING = DrainingError("the server is shutting down")
SERVING = Standing.SERVING
SOON = WatchOptions(poll_s=0.05, poll_timeout_s=5.0, first_pause_s=0.02, max_pause_s=0.1)
PATIENT = ReopenOptions(patience_s=300, interval_s=0.05)
# The text of a coupled session depends on its target alone, whatever becomes of drafts.
COUPLED = replace(SEEDED, verification_mode=VerificationMode.COUPLED)
EXACT = {"greedy": GREEDY, "coupled": COUPLED}


@dataclass
class Member:
    """A server of a tier, and how to hold what it computes."""

    address: str
    server: Server
    gate: Gate
    tier: TargetServicer | Proposer

    @property
    def num_sessions(self) -> int:
        """Sessions that it holds."""
        load = self.tier.engine.load if isinstance(self.tier, TargetServicer) else self.tier.load
        return load().num_sessions

    async def die(self) -> None:
        """Ends all calls and the listener at once, as a process that dies."""
        await stop_abruptly(self.server)
        self.gate.open()

    def close_to_sessions(self) -> None:
        """Says by its health that it drains, and refuses new calls; those it has go on."""
        self.server.refuse(DRAINING)


@asynccontextmanager
async def a_target(model: LoadedModel, address: str = "") -> AsyncIterator[Member]:
    """A replica of the target tier."""
    model, gate = gated(model)
    servicer = TargetServicer(copy(model.model), model.info, LIMITS)
    address = address or f"127.0.0.1:{free_port()}"
    serving = serving_at(address, lambda s: add_TargetServiceServicer_to_server(servicer, s))
    try:
        async with serving as server:
            yield Member(address, server, gate, servicer)
    finally:
        gate.open()
        await servicer.close()


@asynccontextmanager
async def a_draft(model: LoadedModel, address: str = "") -> AsyncIterator[Member]:
    """A replica of the draft tier."""
    model, gate = gated(model)
    proposer = model.proposer()
    servicer = DraftServicer(proposer)
    address = address or f"127.0.0.1:{free_port()}"
    serving = serving_at(address, lambda s: add_DraftServiceServicer_to_server(servicer, s))
    try:
        async with serving as server:
            yield Member(address, server, gate, proposer)
    finally:
        gate.open()
        await proposer.close()


@dataclass
class Fleet:
    """All replicas, and an orchestrator over them."""

    client: GenerationClient
    drafts: dict[str, Member]
    targets: dict[str, Member]
    known_drafts: ReplicaSet[DraftServiceStub]
    known_targets: ReplicaSet[TargetServiceStub]

    def target_of_session(self) -> Member:
        """The target that has the only session."""
        return next(member for member in self.targets.values() if member.num_sessions)

    def draft_of_session(self) -> Member:
        """The draft that has the only session."""
        return next(member for member in self.drafts.values() if member.num_sessions)

    def others(self, member: Member) -> list[Member]:
        """The other replicas of its tier."""
        tier = self.targets if member.address in self.targets else self.drafts
        return [each for each in tier.values() if each is not member]

    def known(self, member: Member) -> Replica:
        """What the orchestrator knows of it."""
        replicas = (*self.known_targets.all, *self.known_drafts.all)
        return next(each for each in replicas if each.address == member.address)

    async def until_nothing_is_held(self, *members: Member) -> None:
        """Returns when these replicas hold no session and no token."""
        stubs = {each.address: each.stub for each in self.known_targets.all}
        for member in members:
            if stub := stubs.get(member.address):
                await until(lambda stub=stub: _is_free(target_load, stub))
            else:
                stub = self.known(member).stub
                await until(lambda stub=stub: _is_free(draft_load, stub))


async def _is_free(load, stub) -> bool:
    return await load(stub) == NOTHING_HELD


@asynccontextmanager
async def a_fleet(
    target: LoadedModel,
    draft: LoadedModel,
    *,
    num_targets: int = 2,
    num_drafts: int = 2,
    more_targets: Sequence[str] = (),
    more_drafts: Sequence[str] = (),
    reopen: ReopenOptions = PATIENT,
    draft_patience: DraftPatience | None = None,
    watch: WatchOptions = SOON,
    policy: PolicyKind = PolicyKind.FIXED,
) -> AsyncIterator[Fleet]:
    """A deployment over these replicas, and over more addresses that a test looks after."""
    patience = draft_patience or DraftPatience(open_s=5, round_s=20, first_backoff_s=0.05)
    async with AsyncExitStack() as cleanup:
        enter = cleanup.enter_async_context
        targets = [await enter(a_target(target)) for _ in range(num_targets)]
        drafts = [await enter(a_draft(draft)) for _ in range(num_drafts)]
        addresses = [*(each.address for each in targets), *more_targets]
        known_targets = await enter(watching(TARGET, addresses, options=watch))
        addresses = [*(each.address for each in drafts), *more_drafts]
        known_drafts = await enter(watching(DRAFT, addresses, options=watch))
        model = await find_target(known_targets, target.tokenizer.fingerprint)
        known_targets.require(lambda other: another_model(other, model))
        known_drafts.require(lambda other: unusable_draft(other, model))
        tiers = Tiers(known_drafts, known_targets, patience, reopen)
        servicer = GenerationServicer(
            Deployment(target.tokenizer, model, DEFAULT_K, MAX_K, policy=policy),
            tiers,
            AdmissionLimits(),
        )
        about = DeploymentServicer((known_targets, known_drafts), None)
        about.generation = servicer

        def add_services(services: object) -> None:
            add_GenerationServiceServicer_to_server(servicer, services)
            add_DeploymentServiceServicer_to_server(about, services)

        address = f"127.0.0.1:{free_port()}"
        await enter(serving_at(address, add_services))
        members = (
            {each.address: each for each in drafts},
            {each.address: each for each in targets},
        )
        fleet = Fleet(await enter(GenerationClient(address)), *members, known_drafts, known_targets)
        await until(lambda: all(fleet.known(each).standing is SERVING for each in targets + drafts))
        yield fleet
        for member in targets + drafts:
            member.gate.open()
