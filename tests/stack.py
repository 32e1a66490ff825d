"""A whole deployment inside the test process: three gRPC servers on loopback, real wire between.

async with running_stack(target, draft) as stack:
    async for event in stack.client.generate(request): ...
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from draft_service.feature_proposer import FeatureProposer
from draft_service.model_proposer import ModelProposer
from draft_service.proposer import Proposer
from draft_service.servicer import DraftServicer
from draft_service.translated_proposer import TranslatedProposer
from forethought.client import GenerationClient
from forethought.counts.builder import BuildOptions, build_table
from forethought.counts.corpus import Corpus
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.lean.feature_draft import load_feature_draft
from forethought.engine.loading.loader import EngineOptions, load_model
from forethought.engine.loading.warm_up import FeatureTierModel, TierModel, describe
from forethought.engine.model.causal_model import CausalModel
from forethought.generation import Finished, GenerationRequest, Started, Step, Token
from forethought.models.feature_draft import FeatureDraftConfig
from forethought.models.files.reference import ModelFiles, resolve
from forethought.models.text.tokenizer import TextTokenizer, load_tokenizer
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.security.guards import Guard, let_all_in
from forethought.rpc.security.tls import channel_credentials
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.sampling.judges import JUDGES, Judge
from forethought.sampling.types import VerificationMode
from forethought.tier import HiddenStatesNeed, ModelInfo
from forethought.v1.draft_pb2_grpc import DraftServiceStub, add_DraftServiceServicer_to_server
from forethought.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from forethought.v1.scaling_pb2_grpc import add_ScalingServiceServicer_to_server
from forethought.v1.target_pb2_grpc import TargetServiceStub, add_TargetServiceServicer_to_server
from orchestrator.generator import Tiers
from orchestrator.lookup.counts import CountsLookup
from orchestrator.lookup.lookup import Lookup
from orchestrator.lookup.ngram import NgramLookup
from orchestrator.lookup.suffix import SuffixLookup, SuffixOptions
from orchestrator.replicas.replica_set import alone
from orchestrator.request.admission import AdmissionLimits
from orchestrator.request.plan import Deployment, PolicyKind
from orchestrator.scaling_servicer import ScalingServicer
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions
from orchestrator.tiers.patience import DraftPatience, ReopenOptions
from target_service.servicer import TargetServicer

if TYPE_CHECKING:
    from tests.certificates import Security

MAX_K = 8
DEFAULT_K = 3
LIMITS = EngineLimits(num_blocks=512, max_sessions=64)


@dataclass(frozen=True)
class LoadedModel:
    """A model with all that tiers say about it."""

    files: ModelFiles
    model: CausalModel
    tokenizer: TextTokenizer

    @property
    def info(self) -> ModelInfo:
        return describe(self.model, self.files, self.tokenizer.fingerprint, MAX_K)

    def proposer(self, max_support: int = 4, limits: EngineLimits = LIMITS) -> ModelProposer:
        # Its own model: the keys and values of a tier are its model's.
        model = copy(self.model)
        return ModelProposer(model, self.info, self.tokenizer.vocab_size, max_support, limits)

    def translated(self, target: TextTokenizer, max_support: int = 4) -> TranslatedProposer:
        """Drafts for a target with another vocabulary."""
        own = TierModel(copy(self.model), self.tokenizer, self.info, LIMITS)
        return TranslatedProposer(own, target, max_support)

    def ngram(self, min_match: int = 1) -> NgramLookup:
        return NgramLookup(min_match, 8)

    def suffix(self, min_match: int = 1) -> SuffixLookup:
        return SuffixLookup(SuffixOptions(min_match, 8))

    def counts(self) -> CountsLookup:
        """Always sure of its guesses, and seldom right: of a text that no model wrote."""
        text = [2 + place * place % 9 for place in range(60)]
        whole = np.array([0, len(text)])
        table = build_table(
            Corpus(np.array(text), whole, whole[:1]),
            self.tokenizer.vocab_size,
            BuildOptions(min_count=1),
        )
        return CountsLookup(table, 0.0, 0.0)

    def feature(self, draft_folder: Path) -> "LoadedFeatureDraft":
        """A feature draft for this target."""
        files = resolve(str(draft_folder))
        return LoadedFeatureDraft(files, load_feature_draft(files, "float32"), self.tokenizer)


@dataclass(frozen=True)
class LoadedFeatureDraft(LoadedModel):
    """A feature draft with its target's tokenizer."""

    @property
    def info(self) -> ModelInfo:
        config = FeatureDraftConfig.read(self.files)
        need = HiddenStatesNeed(config.target_fingerprint, config.hidden_size)
        return replace(super().info, hidden_size=0, hidden_states_need=need)

    def proposer(self, max_support: int = 4, limits: EngineLimits = LIMITS) -> FeatureProposer:
        return FeatureProposer(FeatureTierModel(copy(self.model), self.info, limits), max_support)


@cache
def loaded(folder: Path | str) -> LoadedModel:
    """A model in fp32 on one thread, loaded once a test process."""
    files = resolve(str(folder))
    model = load_model(files, EngineOptions(dtype="float32", device="cpu", num_threads=1))
    return LoadedModel(files, model, load_tokenizer(files))


@dataclass(frozen=True)
class Drafts:
    """Who drafts."""

    model: Proposer | None = None  # of the draft tier; None: there is none
    lookups: Sequence[Lookup] = ()  # of the orchestrator


@dataclass
class Stack:
    """A running deployment and handles on its insides; None for those of a draft tier that is not
    there."""

    client: GenerationClient
    address: str
    draft_address: str
    target_address: str
    draft_stub: DraftServiceStub
    target_stub: TargetServiceStub
    proposer: Proposer
    target: TargetServicer
    draft_server: Server
    target_server: Server
    deployment: Deployment
    tiers: Tiers
    server: Server


@dataclass
class Answer:
    """All events of a generation, sorted."""

    started: Started
    tokens: list[Token]
    steps: list[Step]
    finished: Finished

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


async def generate(client: GenerationClient, request: GenerationRequest) -> Answer:
    """Runs a request to its end."""
    events = [event async for event in client.generate(request, timeout_s=120)]
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    return Answer(
        events[0],
        [event for event in events if isinstance(event, Token)],
        [event for event in events if isinstance(event, Step)],
        events[-1],
    )


@asynccontextmanager
async def running_server(
    add_services: Callable[[object], None], drain_grace_s: float = 1.0, **options: Any
) -> AsyncIterator[Server]:
    """A server on a free port, serving."""
    server = Server(ServerOptions("127.0.0.1:0", (), drain_grace_s, **options))
    await server.start()

    async def load(services: object) -> None:
        add_services(services)

    await server.load(load)
    try:
        yield server
    finally:
        await server.drain()


@asynccontextmanager
async def running_stack(
    target: LoadedModel,
    proposer: Proposer | None = None,
    *,
    judge: Judge | None = None,
    limits: EngineLimits = LIMITS,
    max_requests: int = 64,
    admission: AdmissionLimits | None = None,
    draft_patience: DraftPatience | None = None,
    reopen: ReopenOptions | None = None,
    policy: PolicyKind = PolicyKind.FIXED,
    draft_address: str = "",
    store_url: str = "",
    lookups: Sequence[Lookup] = (),
    security: "Security | None" = None,
    guard: Guard = let_all_in,
    client_guard: Guard | None = None,
    api_key: str = "",
) -> AsyncIterator[Stack]:
    """Draft, target and orchestrator, each behind a gRPC server.

    Args:
        proposer: of the draft tier; without one there is none.
        judge: replaces all real ones.
        admission: all limits of the orchestrator's requests, instead of `max_requests`.
        draft_address: of another draft tier that sessions go to, instead of the one here.
        store_url: of the store of sessions; without one there is none.
        lookups: of the orchestrator.
        security: of all listeners and callers; None speaks plain text.
        guard: of all listeners.
        client_guard: of the orchestrator's instead.
        api_key: of the client.
    """
    client_tls = None if security is None else security.client
    credentials = None if client_tls is None else channel_credentials(client_tls)
    connect = partial(open_channel, credentials=credentials)
    tls = None if security is None else security.server
    serve = partial(running_server, tls=tls, guard=guard)
    async with AsyncExitStack() as cleanup:
        target_servicer = TargetServicer(copy(target.model), target.info, limits)
        cleanup.push_async_callback(target_servicer.close)
        draft_server = draft_stub = drafts = None
        if proposer is not None:
            cleanup.push_async_callback(proposer.close)
            draft_servicer = DraftServicer(proposer)
            draft_server = await cleanup.enter_async_context(
                serve(lambda s: add_DraftServiceServicer_to_server(draft_servicer, s))
            )
            draft_address = draft_address or f"127.0.0.1:{draft_server.port}"
            draft_stub = DraftServiceStub(await cleanup.enter_async_context(connect(draft_address)))
            drafts = alone(draft_stub)
            # As the watch of a deployment would have found out.
            drafts.all[0].model = proposer.info
        target_server = await cleanup.enter_async_context(
            serve(lambda s: add_TargetServiceServicer_to_server(target_servicer, s))
        )
        target_address = f"127.0.0.1:{target_server.port}"
        target_channel = await cleanup.enter_async_context(connect(target_address))
        # An attempt to connect has a second, which a busy machine may not keep.
        await target_channel.channel_ready()
        tiers = Tiers(
            drafts,
            TargetServiceStub(target_channel),
            draft_patience or DraftPatience(open_s=5, round_s=20),
            reopen or ReopenOptions(),
            JUDGES if judge is None else dict.fromkeys(VerificationMode, judge),
            lookups,
        )
        deployment = Deployment(
            target.tokenizer, target_servicer.info, DEFAULT_K, MAX_K, policy=policy
        )
        sessions = Sessions(store_url, "here", timeout_s=10) if store_url else None
        if sessions is not None:
            cleanup.push_async_callback(sessions.close)
        servicer = GenerationServicer(
            deployment, tiers, admission or AdmissionLimits(max_requests=max_requests), sessions
        )

        def add_services(services: object) -> None:
            add_GenerationServiceServicer_to_server(servicer, services)
            add_ScalingServiceServicer_to_server(ScalingServicer(servicer.load), services)

        server = await cleanup.enter_async_context(serve(add_services, guard=client_guard or guard))
        address = f"127.0.0.1:{server.port}"
        client = await cleanup.enter_async_context(
            GenerationClient(address, tls=client_tls, api_key=api_key)
        )
        yield Stack(
            client,
            address,
            draft_address,
            target_address,
            draft_stub,
            tiers.target,
            proposer,
            target_servicer,
            draft_server,
            target_server,
            deployment,
            tiers,
            server,
        )
