"""`python -m orchestrator`: runs the orchestrator until SIGTERM."""

import signal

from forethought.extras import require

if __name__ == "__main__":  # an interrupt amid the imports ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    require("orchestrator")

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, replace

import structlog

from forethought.compatibility import another_vocabulary, unusable_draft
from forethought.deployment import Standing
from forethought.errors import InvalidArgumentError, TierProtocolError, VocabularyMismatchError
from forethought.models.encoding.process import IsolatedTokenizer, load_isolated_tokenizer
from forethought.models.files.reference import resolve
from forethought.models.generation_defaults import GenerationDefaults
from forethought.models.text.tokenizer import TextTokenizer
from forethought.observability.series import Source
from forethought.rpc.connections.channels import MAX_CALLS, CallerLimits
from forethought.rpc.security.tls import channel_credentials, client_tls
from forethought.rpc.serving.server import LateServices, run_process, run_server
from forethought.rpc.serving.server_options import server_options
from forethought.runtime.supervision import keep_running
from forethought.store.sessions.session_store import SessionStoreSettings
from forethought.store.start_check import require_store, sessions_are_kept
from forethought.tier import ModelInfo
from forethought.v1.deployment_pb2 import DESCRIPTOR as DEPLOYMENT
from forethought.v1.deployment_pb2_grpc import add_DeploymentServiceServicer_to_server
from forethought.v1.generation_pb2 import DESCRIPTOR
from forethought.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from forethought.v1.scaling_pb2 import DESCRIPTOR as SCALING
from forethought.v1.scaling_pb2_grpc import add_ScalingServiceServicer_to_server
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.deployment_servicer import DeploymentServicer
from orchestrator.generator import Tiers
from orchestrator.lookup.settings import make_lookups
from orchestrator.readings import read_orchestrator
from orchestrator.replicas.readiness import follow as follow_readiness
from orchestrator.replicas.replica import DRAFT, TARGET
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.replicas.replica_watch import WatchOptions, watching
from orchestrator.request.admission import AdmissionLimits
from orchestrator.request.bounds import RequestBounds
from orchestrator.request.plan import Deployment
from orchestrator.scaling_servicer import ScalingServicer
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions
from orchestrator.settings import OrchestratorSettings
from orchestrator.tiers.patience import DraftPatience, ReopenOptions

_log = structlog.get_logger(__name__)

SERVICE_NAMES = (
    DESCRIPTOR.services_by_name["GenerationService"].full_name,
    SCALING.services_by_name["ScalingService"].full_name,
    DEPLOYMENT.services_by_name["DeploymentService"].full_name,
)

WARNING_INTERVAL_S = 5.0
"""Time after which a target that is still not there is worth a line in the log, and another one."""


async def serve(settings: OrchestratorSettings) -> None:
    """Loads the tokenizer, finds the tiers, and serves."""
    if settings.store_url is not None:
        await require_store(settings.store_url, sessions_are_kept)
    tls = client_tls(settings.tier_tls_ca, settings.tier_tls_cert, settings.tier_tls_key)
    options = WatchOptions(credentials=None if tls is None else channel_credentials(tls))
    async with (
        watching(DRAFT, settings.draft, options=options) as drafts,
        watching(TARGET, settings.target, options=options) as targets,
    ):
        tiers = Tiers(
            draft=drafts if settings.draft else None,
            target=targets,
            draft_patience=DraftPatience(
                open_s=settings.draft_open_timeout_s, round_s=settings.draft_timeout_s
            ),
            reopen=ReopenOptions(patience_s=settings.target_patience_s),
        )

        async def add_services(services: LateServices) -> None:
            about = DeploymentServicer(
                (targets, drafts) if settings.draft else (targets,), sessions, tls
            )
            add_DeploymentServiceServicer_to_server(about, services)
            tokenizer = await asyncio.to_thread(load_text_tokenizer, settings.model)
            cleanup.callback(tokenizer.close)
            lookups = await asyncio.to_thread(
                make_lookups,
                settings,
                settings.model,
                tokenizer.fingerprint,
                has_draft_tier=bool(settings.draft),
            )
            _log.info("lookups", names=[each.name for each in lookups])
            model = await find_target(targets, tokenizer.fingerprint)
            defaults = await asyncio.to_thread(load_defaults, settings)
            deployment = make_deployment(settings, tokenizer, model, defaults)
            targets.require(lambda other: another_model(other, model))
            drafts.require(lambda other: unusable_draft(other, model))
            limits = AdmissionLimits(
                settings.max_requests, settings.max_duration_s, settings.unread_timeout_s
            )
            servicer = GenerationServicer(
                deployment, replace(tiers, lookups=lookups), limits, sessions
            )
            about.generation = servicer
            services.max_message_bytes = RequestBounds(model.max_model_len).max_message_bytes
            add_GenerationServiceServicer_to_server(servicer, services)
            add_ScalingServiceServicer_to_server(ScalingServicer(servicer.load), services)
            services.heartbeats += servicer.texts.heartbeats
            services.sources.append(
                Source(
                    model.name,
                    lambda: read_orchestrator(servicer, (drafts, targets), sessions),
                )
            )
            following = keep_running(
                "readiness",
                lambda: follow_readiness(
                    targets, services.set_ready, settings.target_patience_s, time.monotonic
                ),
            )
            cleanup.callback(following.cancel)

        listening = server_options(
            settings,
            SERVICE_NAMES,
            callers=CallerLimits(
                max_message_bytes=settings.max_request_size,
                max_calls=max(MAX_CALLS, 4 * settings.max_requests),
            ),
            api_keys=settings.api_keys,
        )
        sessions = open_sessions(settings)
        async with AsyncExitStack() as cleanup:
            if sessions is not None:
                cleanup.push_async_callback(sessions.close)
            await run_server(listening, add_services)


def open_sessions(settings: OrchestratorSettings) -> Sessions | None:
    """The store of sessions, if there is one.

    Raises:
        InvalidArgumentError: its URL is none.
    """
    if settings.store_url is None:
        return None
    times = SessionStoreSettings(ttl_s=settings.session_ttl_s, lease_s=settings.session_lease_s)
    return Sessions(
        settings.store_url,
        settings.listen,
        times,
        commit_interval_s=settings.commit_interval_s,
    )


def load_text_tokenizer(model: str) -> IsolatedTokenizer:
    """The tokenizer of a model, downloaded if it must be."""
    return load_isolated_tokenizer(resolve(model, with_weights=False))


def load_defaults(settings: OrchestratorSettings) -> GenerationDefaults:
    """What requests get that leave it open; raises as `resolve` and GenerationDefaults do."""
    if settings.generation_config == "none":
        return GenerationDefaults()
    defaults = GenerationDefaults.read(resolve(settings.model, with_weights=False))
    _log.info("generation_defaults", **asdict(defaults))
    return defaults


async def find_target(
    targets: ReplicaSet[TargetServiceStub], vocabulary_fingerprint: str = ""
) -> ModelInfo:
    """Waits until a replica of the target tier serves, and returns what it serves.

    Of several, the first whose vocabulary is the tokenizer's decides; only where none of them has
    it, the first.

    Raises:
        TierProtocolError: who answers there is no target tier.
    """
    _log.info("waiting_for_target", addresses=[replica.address for replica in targets.all])
    next_warning = time.monotonic() + WARNING_INTERVAL_S
    while True:
        replicas = targets.all
        serving = [each for each in replicas if each.standing is Standing.SERVING]
        models = [each.model for each in serving if each.model is not None]
        for model in models:
            if vocabulary_fingerprint in {"", model.vocabulary_fingerprint}:
                return model
        if models and len(models) == len(replicas):
            return models[0]
        if replicas and all(each.standing is Standing.REFUSED for each in replicas):
            raise TierProtocolError("; ".join(f"{each.why} at {each.address}" for each in replicas))
        if time.monotonic() >= next_warning:
            next_warning += WARNING_INTERVAL_S
            if not replicas:
                _log.warning("target_not_ready", why="no name of the target tier has an address")
            for each in replicas:
                _log.warning(
                    "target_not_ready",
                    address=each.address,
                    standing=each.standing.value,
                    why=each.why,
                )
        await targets.change(max(next_warning - time.monotonic(), 0))


def another_model(model: ModelInfo, expected: ModelInfo) -> str:
    """Why a target replica may not take part: its numbers would be another model's."""
    if model.model_fingerprint == expected.model_fingerprint:
        return another_vocabulary(model, expected)
    return (
        f"{model.name} ({model.model_fingerprint}) is not {expected.name} "
        f"({expected.model_fingerprint})"
    )


def make_deployment(
    settings: OrchestratorSettings,
    tokenizer: TextTokenizer,
    target: ModelInfo,
    defaults: GenerationDefaults,
) -> Deployment:
    """Puts the parts together.

    Raises:
        VocabularyMismatchError: the tokenizer is not the target's.
        InvalidArgumentError: K was asked for, and is more than the target verifies in a round.
    """
    if tokenizer.fingerprint != target.vocabulary_fingerprint:
        raise VocabularyMismatchError(
            f"the tokenizer of {tokenizer.name} is not that of the target {target.name}: their "
            f"vocabularies differ ({tokenizer.fingerprint}, {target.vocabulary_fingerprint})"
        )
    k, max_k = settings.num_speculative_tokens, target.max_num_speculative_tokens
    if k > max_k and "num_speculative_tokens" in settings.model_fields_set:
        raise InvalidArgumentError(
            {
                "num_speculative_tokens": f"is {k}, and the target verifies at most {max_k} tokens "
                f"a round: lower it, or start the target with --max-num-speculative-tokens {k}"
            }
        )
    return Deployment(
        tokenizer=tokenizer,
        target=target,
        default_num_speculative_tokens=min(k, max_k),
        max_num_speculative_tokens=max_k,
        default_mode=settings.verification_mode,
        policy=settings.policy,
        max_hidden_states=settings.max_hidden_states,
        defaults=defaults,
    )


if __name__ == "__main__":
    run_process(serve(OrchestratorSettings.from_command_line()))
