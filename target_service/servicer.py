"""TargetService over gRPC: sessions as streams, verification in the engine."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc

from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.batching.readings import read_engine
from forethought.engine.cache.hidden_tail import HiddenTail
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.causal_model import CausalModel
from forethought.observability.series import Reading
from forethought.rpc.codecs.load import load_to_proto, work_to_proto
from forethought.rpc.codecs.model_info import model_to_proto
from forethought.rpc.codecs.tier.evidence import (
    evidence_to_proto,
    progress_to_proto,
    verify_from_proto,
)
from forethought.rpc.codecs.tier.opening import open_from_proto, opened_to_proto
from forethought.rpc.session_stream import check_models, serve_session
from forethought.rpc.ticking import with_ticks
from forethought.sampling.types import Evidence
from forethought.tier import (
    SESSION_IDLE_TIMEOUT_S,
    EvidenceRound,
    ModelInfo,
    PrefillProgress,
    SessionOpen,
    SessionOpened,
)
from forethought.v1 import common_pb2, target_pb2
from forethought.v1.target_pb2_grpc import TargetServiceServicer
from target_service.next_plain_round import next_plain_round
from target_service.verifier import Verification, Verify, verify

VerificationEngine = Engine[Verification, Evidence]


class TargetServicer(TargetServiceServicer):
    """Serves one target model to any number of sessions."""

    def __init__(
        self,
        model: CausalModel,
        info: ModelInfo,
        limits: EngineLimits,
        verify: Verify = verify,
        *,
        idle_timeout_s: float = SESSION_IDLE_TIMEOUT_S,
    ) -> None:
        self._idle_timeout_s = idle_timeout_s
        self.engine: VerificationEngine = Engine(
            model, limits, verify, next_plain_round, pass_costs=info.pass_costs
        )
        self.info = replace(info, max_model_len=self.engine.max_model_len)

    @property
    def engines(self) -> Sequence[VerificationEngine]:
        """The only one."""
        return (self.engine,)

    def readings(self) -> Iterator[Reading]:
        """What it says when it is scraped."""
        return read_engine(self.engine)

    async def close(self) -> None:
        """Fails what is under way, and returns when nothing is computed any more."""
        await self.engine.close()

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_pb2.VerifyRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[target_pb2.VerifyResponse]:
        """One session: opening, then rounds."""
        opened: list[VerificationSession] = []

        def open_session(message: common_pb2.SessionOpen) -> VerificationSession:
            opened.append(self._open(message))
            return opened[0]

        session = serve_session(request_iterator, open_session, idle_timeout_s=self._idle_timeout_s)
        async with aclosing(session) as responses:
            async for response in responses:
                yield response
                if opened[0].wants_progress:
                    break
            else:
                return
            async with aclosing(with_ticks(responses, opened[0].progress)) as told:
                async for response in told:
                    yield response

    async def GetModelInfo(
        self,
        request: target_pb2.TargetServiceGetModelInfoRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> target_pb2.TargetServiceGetModelInfoResponse:
        """The model and the load."""
        return target_pb2.TargetServiceGetModelInfoResponse(
            model=model_to_proto(self.info),
            load=load_to_proto(self.engine.load()),
            work=work_to_proto(self.engine.work()),
        )

    def _open(self, message: common_pb2.SessionOpen) -> "VerificationSession":
        opening = open_from_proto(message, self.info)
        check_models(opening, self.info)
        salt = opening.tenant.encode()
        num_cached_tokens = self.engine.count_reusable(opening.token_ids, salt)
        sequence = self.engine.open(opening.token_ids, salt, _prompt_tail(opening))
        opened = SessionOpened(self.info, num_cached_tokens)
        return VerificationSession(opening, opened, sequence, self.engine)


def _prompt_tail(opening: SessionOpen) -> HiddenTail | None:
    """Keeps the hidden states that the opening asks for."""
    num_wanted = opening.num_prompt_hidden_states
    # The last token's come with the round that computes it.
    return HiddenTail(max(len(opening.token_ids) - 1 - num_wanted, 0)) if num_wanted else None


class VerificationSession:
    """One session on this tier."""

    def __init__(
        self,
        opening: SessionOpen,
        opened: SessionOpened,
        sequence: CachedSequence,
        engine: VerificationEngine,
    ) -> None:
        self._opening = opening
        self._told = 0  # tokens that were said to be computed
        self._opened = opened
        self._sequence = sequence
        self._engine = engine

    async def opened(self) -> target_pb2.VerifyResponse:
        num_restored = await self._engine.count_restored(self._sequence)
        opened = replace(
            self._opened, num_cached_tokens=self._opened.num_cached_tokens + num_restored
        )
        return target_pb2.VerifyResponse(opened=opened_to_proto(opened))

    @property
    def wants_progress(self) -> bool:
        """Whether the opening asked for it."""
        return self._opening.wants_progress

    def progress(self) -> target_pb2.VerifyResponse | None:
        """How far the opening's tokens are, where that is news. The last of them is computed with
        the first round."""
        num_tokens = len(self._opening.token_ids) - 1
        num_computed = min(self._sequence.num_cached_tokens, num_tokens)
        if num_computed == self._told:
            return None
        self._told = num_computed
        progress = PrefillProgress(num_computed, num_tokens)
        return target_pb2.VerifyResponse(progress=progress_to_proto(progress))

    async def answer(self, message: target_pb2.VerifyRound) -> target_pb2.VerifyResponse:
        request = verify_from_proto(message, self._opened.model)
        opening = self._opening
        work = Verification(self._sequence, request, opening.sampling, opening.mode)
        evidence, timings = await self._engine.run(work)
        answer = EvidenceRound(request.round, request.position, evidence, timings)
        return target_pb2.VerifyResponse(evidence=evidence_to_proto(answer))

    def close(self) -> None:
        self._engine.discard(self._sequence)
