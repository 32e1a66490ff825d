"""`python -m orchestrator`: runs the orchestrator until SIGTERM."""

import asyncio
import time
from contextlib import AsyncExitStack

import grpc
import structlog

from forethought.errors import TierProtocolError, VocabularyMismatchError
from forethought.models.reference import resolve
from forethought.models.tokenizer import TextTokenizer, load_tokenizer
from forethought.rpc.channels import open_channel
from forethought.rpc.server import LateServices, ServerOptions, run_process, run_server
from forethought.rpc.status import error_from_rpc
from forethought.rpc.tier_codec import model_from_proto
from forethought.store.session_store import SessionStoreSettings
from forethought.tier import ModelInfo
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from forethought.v1.generation_pb2 import DESCRIPTOR
from forethought.v1.generation_pb2_grpc import add_GenerationServiceServicer_to_server
from forethought.v1.target_pb2 import TargetServiceGetModelInfoRequest
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.generator import Tiers
from orchestrator.plan import Deployment
from orchestrator.remote_proposer import DraftPatience
from orchestrator.remote_verifier import ReopenOptions
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions import Sessions
from orchestrator.settings import OrchestratorSettings

_log = structlog.get_logger(__name__)

SERVICE_NAME = DESCRIPTOR.services_by_name["GenerationService"].full_name

WARNING_INTERVAL_S = 5.0
"""Time after which a target that is still not there is worth a line in the log, and another one."""


async def serve(settings: OrchestratorSettings) -> None:
    """Loads the tokenizer, finds the target tier, and serves."""
    async with open_channel(settings.draft) as draft, open_channel(settings.target) as target:
        tiers = Tiers(
            draft=DraftServiceStub(draft),
            target=TargetServiceStub(target),
            draft_patience=DraftPatience(
                open_s=settings.draft_open_timeout_s, round_s=settings.draft_timeout_s
            ),
            reopen=ReopenOptions(patience_s=settings.target_patience_s),
        )

        async def add_services(services: LateServices) -> None:
            tokenizer = await asyncio.to_thread(load_text_tokenizer, settings.model)
            model = await find_target(tiers.target, settings.target)
            deployment = make_deployment(settings, tokenizer, model)
            servicer = GenerationServicer(deployment, tiers, settings.max_requests, sessions)
            add_GenerationServiceServicer_to_server(servicer, services)

        options = ServerOptions(settings.listen, (SERVICE_NAME,), settings.drain_grace_s)
        sessions = open_sessions(settings)
        async with AsyncExitStack() as cleanup:
            if sessions is not None:
                cleanup.push_async_callback(sessions.close)
            await run_server(options, add_services)


def open_sessions(settings: OrchestratorSettings) -> Sessions | None:
    """The store of sessions, if there is one. It is connected to when first used.

    Raises:
        InvalidArgumentError: its URL is none.
    """
    if settings.redis_url is None:
        return None
    times = SessionStoreSettings(ttl_s=settings.session_ttl_s, lease_s=settings.session_lease_s)
    return Sessions(settings.redis_url.get_secret_value(), settings.listen, times)


def load_text_tokenizer(model: str) -> TextTokenizer:
    """The tokenizer of a model, downloaded if it must be."""
    return load_tokenizer(resolve(model, with_weights=False))


async def find_target(stub: TargetServiceStub, address: str) -> ModelInfo:
    """Waits until the target tier serves, and returns what it serves.

    Raises:
        TierProtocolError: who answers there is no target tier.
    """
    _log.info("waiting_for_target", address=address)
    next_warning = time.monotonic() + WARNING_INTERVAL_S
    while True:
        try:
            response = await stub.GetModelInfo(TargetServiceGetModelInfoRequest(), timeout=5)
        except grpc.aio.AioRpcError as rpc_error:
            error = error_from_rpc(rpc_error)
            if error.code == "UNIMPLEMENTED":
                raise TierProtocolError(f"there is no target tier at {address}") from error
            if time.monotonic() >= next_warning:
                next_warning += WARNING_INTERVAL_S
                _log.warning(
                    "target_not_ready", address=address, reason=error.reason, why=error.message
                )
            await asyncio.sleep(0.2)
        else:
            return model_from_proto(response.model)


def make_deployment(
    settings: OrchestratorSettings, tokenizer: TextTokenizer, target: ModelInfo
) -> Deployment:
    """Puts the parts together.

    Raises:
        VocabularyMismatchError: the tokenizer is not the target's.
    """
    if tokenizer.fingerprint != target.vocabulary_fingerprint:
        raise VocabularyMismatchError(
            f"the tokenizer of {tokenizer.name} is not that of the target {target.name}: their "
            f"vocabularies differ ({tokenizer.fingerprint}, {target.vocabulary_fingerprint})"
        )
    max_k = target.max_num_speculative_tokens
    return Deployment(
        tokenizer=tokenizer,
        target=target,
        default_num_speculative_tokens=min(settings.num_speculative_tokens, max_k),
        max_num_speculative_tokens=max_k,
        default_mode=settings.verification_mode,
        policy=settings.policy,
    )


if __name__ == "__main__":
    run_process(serve(OrchestratorSettings.from_command_line()))
