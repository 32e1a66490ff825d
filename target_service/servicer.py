"""TargetService over gRPC: sessions as streams, verification in the engine's thread."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from forethought.engine.causal_model import CausalModel
from forethought.engine.sequence import CachedSequence
from forethought.engine.session_table import SessionTable
from forethought.rpc.session_stream import check_models, serve_session
from forethought.rpc.tier_codec import (
    evidence_to_proto,
    load_to_proto,
    model_to_proto,
    open_from_proto,
    opened_to_proto,
    verify_from_proto,
)
from forethought.tier import EvidenceRound, ModelInfo, SessionOpen, SessionOpened
from forethought.v1 import common_pb2, target_pb2
from forethought.v1.target_pb2_grpc import TargetServiceServicer
from target_service.verifier import Verify, verify


class TargetServicer(TargetServiceServicer):
    """Serves one target model to any number of sessions."""

    def __init__(
        self,
        model: CausalModel,
        info: ModelInfo,
        sessions: SessionTable,
        verify: Verify = verify,
    ) -> None:
        self._model = model
        self._info = info
        self._sessions = sessions
        self._verify = verify

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_pb2.VerifyRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[target_pb2.VerifyResponse]:
        """One session: opening, then rounds."""
        async for response in serve_session(request_iterator, self._open):
            yield response

    async def GetModelInfo(
        self,
        request: target_pb2.TargetServiceGetModelInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> target_pb2.TargetServiceGetModelInfoResponse:
        """The model and the load."""
        return target_pb2.TargetServiceGetModelInfoResponse(
            model=model_to_proto(self._info), load=load_to_proto(self._sessions.load())
        )

    def _open(self, message: common_pb2.SessionOpen) -> "VerificationSession":
        opening = open_from_proto(message, self._info)
        check_models(opening, self._info)
        sequence = CachedSequence(self._model)
        sequence.extend(opening.token_ids)
        self._sessions.admit(sequence)
        return VerificationSession(opening, self._info, sequence, self._sessions, self._verify)


class VerificationSession:
    """One session on this tier."""

    def __init__(
        self,
        opening: SessionOpen,
        info: ModelInfo,
        sequence: CachedSequence,
        sessions: SessionTable,
        verify: Verify,
    ) -> None:
        self._sampling = opening.sampling
        self._info = info
        self._sequence = sequence
        self._verify = verify
        self._sessions = sessions

    def opened(self) -> target_pb2.VerifyResponse:
        opened = SessionOpened(self._info, num_cached_tokens=0)
        return target_pb2.VerifyResponse(opened=opened_to_proto(opened))

    async def prepare(self) -> None:
        await self._sessions.prefill(self._sequence)

    async def answer(self, message: target_pb2.VerifyRound) -> target_pb2.VerifyResponse:
        request = verify_from_proto(message, self._info)
        evidence, timings = await self._sessions.run(
            lambda: self._verify(self._sequence, request, self._sampling)
        )
        answer = EvidenceRound(request.round, request.position, evidence, timings)
        return target_pb2.VerifyResponse(evidence=evidence_to_proto(answer))

    def close(self) -> None:
        self._sessions.discard(self._sequence)
