"""Parallel verification by the target tier, over one stream."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from forethought.errors import (
    CachePositionMismatchError,
    ForethoughtError,
    TierProtocolError,
    TierUnavailableError,
)
from forethought.rpc.tier_codec import (
    evidence_from_proto,
    open_to_proto,
    opened_from_proto,
    verify_to_proto,
)
from forethought.sampling.types import Draft, Evidence
from forethought.tier import DraftToVerify, EvidenceRound, RoundTimings, SessionOpen, VerifyRound
from forethought.v1.target_pb2 import VerifyRequest, VerifyResponse
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.session import Session
from orchestrator.tier_stream import TierStream, is_lost

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ReopenOptions:
    """What happens when the target's stream is lost."""

    patience_s: float = 10.0
    """How long a round may take to find the target again."""
    interval_s: float = 0.2
    """Time between two attempts."""


class RemoteVerifier:
    """Keeps one stream to the target tier, and opens it again when it is lost.

    The round is then asked again from the whole prefix. Its draws are keyed by round and position,
    so the evidence is what it would have been.
    """

    def __init__(
        self,
        stub: TargetServiceStub,
        vocabulary_fingerprint: str,
        *,
        num_logprobs: int | None = None,
        deadline_s: float | None = None,
        reopen: ReopenOptions | None = None,
    ) -> None:
        self._stub = stub
        self._vocabulary_fingerprint = vocabulary_fingerprint
        self._model_fingerprint = ""  # of the model that the session began with
        self._num_logprobs = num_logprobs
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._reopen = reopen or ReopenOptions()
        self._stream: TierStream | None = None
        self._num_known_tokens = 0  # tokens of the session that the tier has been told
        self.timings = RoundTimings()
        """Of the last round, by the tier's clock."""

    async def start(self, session: Session) -> None:
        """Opens the stream, so that the tier computes the prompt; raises as `verify` does."""
        await self._insist(session, lambda: self._open(session))

    async def verify(self, session: Session, draft: Draft) -> Evidence:
        """The evidence on a draft.

        Raises:
            TierUnavailableError: the target tier is lost and did not come back in time.
            ForethoughtError: the tier refused; what it said.
        """
        answer = await self._insist(session, lambda: self._ask(session, draft))
        self.timings = answer.timings
        return answer.evidence

    async def _insist(self, session: Session, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Tries until it works, for as long as trying again can help."""
        give_up: float | None = None  # patience begins with the first failure
        while True:
            try:
                return await attempt()
            except ForethoughtError as error:
                self.close()
                if not is_lost(error) and not isinstance(error, CachePositionMismatchError):
                    raise
                give_up = give_up or time.monotonic() + self._reopen.patience_s
                if time.monotonic() >= give_up:
                    raise TierUnavailableError(f"target tier: {error.message}") from error
                _log.warning(
                    "target_lost",
                    session_id=session.session_id,
                    reason=error.reason,
                    why=error.message,
                )
            await asyncio.sleep(self._reopen.interval_s)

    def close(self) -> None:
        """Ends the stream."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _ask(self, session: Session, draft: Draft) -> EvidenceRound:
        stream = self._stream or await self._open(session)
        request = VerifyRound(
            round=session.round,
            position=session.position,
            committed_token_ids=session.token_ids[self._num_known_tokens :],
            drafts=[
                DraftToVerify(token.token_id, token.support_token_ids) for token in draft.tokens
            ],
            num_logprobs=self._num_logprobs,
        )
        await stream.send(VerifyRequest(round=verify_to_proto(request)))
        self._num_known_tokens = session.position
        response: VerifyResponse = await stream.receive()
        if response.evidence.round != session.round:
            raise TierProtocolError("the target tier answered another round")
        return evidence_from_proto(response.evidence)

    async def _open(self, session: Session) -> TierStream:
        timeout_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0)
        stream = TierStream(self._stub.Verify(timeout=timeout_s))
        self._stream = stream
        opening = SessionOpen(
            session.session_id,
            session.token_ids,
            session.sampling,
            self._vocabulary_fingerprint,
            self._model_fingerprint,
        )
        await stream.send(VerifyRequest(open=open_to_proto(opening)))
        self._num_known_tokens = session.position
        response: VerifyResponse = await stream.receive()
        self._model_fingerprint = opened_from_proto(response.opened).model.model_fingerprint
        return stream
