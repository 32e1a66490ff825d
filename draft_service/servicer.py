"""DraftService over gRPC: sessions as streams."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from draft_service.proposer import Proposer, SessionProposer
from forethought.rpc.codecs.generation.statistics import lookahead_to_proto
from forethought.rpc.codecs.load import load_to_proto, work_to_proto
from forethought.rpc.codecs.model_info import model_to_proto
from forethought.rpc.codecs.tier.draft import draft_to_proto, speculate_from_proto
from forethought.rpc.codecs.tier.opening import open_from_proto, opened_to_proto
from forethought.rpc.session_stream import check_models, serve_session
from forethought.tier import SESSION_IDLE_TIMEOUT_S, DraftRound, ModelInfo, SessionOpened
from forethought.v1 import common_pb2, draft_pb2
from forethought.v1.draft_pb2_grpc import DraftServiceServicer


class DraftServicer(DraftServiceServicer):
    """Serves one proposer to any number of sessions."""

    def __init__(
        self, proposer: Proposer, *, idle_timeout_s: float = SESSION_IDLE_TIMEOUT_S
    ) -> None:
        self._proposer = proposer
        self._idle_timeout_s = idle_timeout_s

    async def Speculate(
        self,
        request_iterator: AsyncIterator[draft_pb2.SpeculateRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[draft_pb2.SpeculateResponse]:
        """One session: opening, then rounds."""
        async for response in serve_session(
            request_iterator, self._open, idle_timeout_s=self._idle_timeout_s
        ):
            yield response

    async def GetModelInfo(
        self,
        request: draft_pb2.DraftServiceGetModelInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> draft_pb2.DraftServiceGetModelInfoResponse:
        """The model, the kind of proposer and the load."""
        return draft_pb2.DraftServiceGetModelInfoResponse(
            model=model_to_proto(self._proposer.info),
            proposer=self._proposer.name,
            load=load_to_proto(self._proposer.load()),
            lookahead=lookahead_to_proto(self._proposer.lookahead),
            work=work_to_proto(self._proposer.work()),
        )

    def _open(self, message: common_pb2.SessionOpen) -> "DraftingSession":
        info = self._proposer.info
        opening = open_from_proto(message, info)
        check_models(opening, info)
        return DraftingSession(info, self._proposer.open(opening))


class DraftingSession:
    """One session on this tier."""

    def __init__(self, info: ModelInfo, proposer: SessionProposer) -> None:
        self._info = info
        self._proposer = proposer

    async def opened(self) -> draft_pb2.SpeculateResponse:
        opened = SessionOpened(self._info, self._proposer.num_reused_tokens)
        return draft_pb2.SpeculateResponse(opened=opened_to_proto(opened))

    async def answer(self, message: draft_pb2.SpeculateRound) -> draft_pb2.SpeculateResponse:
        request = speculate_from_proto(message, self._info)
        draft, timings = await self._proposer.propose(request)
        answer = DraftRound(request.round, request.position, draft, timings)
        return draft_pb2.SpeculateResponse(draft=draft_to_proto(answer))

    def close(self) -> None:
        self._proposer.close()
