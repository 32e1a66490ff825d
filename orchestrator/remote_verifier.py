"""Parallel verification by the target tier, over one stream.

Three things bound a target that does not answer. *Patience* bounds the search for a target once it
is lost, and the answer to an opening, which comes before the prompt is computed. A *round* may take
long, since it waits for that computation; only the deadline of the caller bounds it. A target that
vanished during a round without a word is lost when the channel's *keep-alive* says so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import structlog

from forethought.errors import (
    CachePositionMismatchError,
    ForethoughtError,
    ModelMismatchError,
    OverloadedError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.rpc.tier_codec import (
    evidence_from_proto,
    open_to_proto,
    verify_to_proto,
)
from forethought.sampling.types import Draft, Evidence
from forethought.tier import (
    DraftToVerify,
    EvidenceRound,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    VerifyRound,
)
from forethought.v1.target_pb2 import VerifyRequest, VerifyResponse
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.session import Session
from orchestrator.tier_stream import TierStream, is_lost

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


MIN_OPENING_S = 1.0
"""Time that the answer to an opening gets in any case: it has to cross the network."""


@dataclass(frozen=True, slots=True)
class ReopenOptions:
    """What happens when the target's stream is lost."""

    patience_s: float = 10.0
    """How long the target may stay lost, from the first failure on; also how long it may leave an
    opening unanswered, though that is never less than `MIN_OPENING_S`. A round that is under way is
    not bounded by it: that a target fell silent is found out by `KeepAlive`, and patience begins
    then."""
    interval_s: float = 0.2
    """Time between two attempts. A target that is full says itself when to ask again."""


class RemoteVerifier:
    """Keeps one stream to the target tier, and opens it again when it is lost.

    The round is then asked again from the whole prefix. Its draws are keyed by round and position,
    so the evidence is what it would have been.

    Args:
        model: what the target tier must serve; another one is refused.
    """

    def __init__(
        self,
        stub: TargetServiceStub,
        model: ModelInfo,
        *,
        num_logprobs: int | None = None,
        deadline_s: float | None = None,
        reopen: ReopenOptions | None = None,
    ) -> None:
        self._stub = stub
        self._model = model
        self._num_logprobs = num_logprobs
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._reopen = reopen or ReopenOptions()
        self._give_up: float | None = None  # patience begins with the first failure
        self._was_open = False  # the tier has taken the session once
        self._stream: TierStream | None = None
        self._num_known_tokens = 0  # tokens of the session that the tier has been told
        self.timings = RoundTimings()
        """Of the last round, by the tier's clock."""
        self.num_cached_tokens = 0
        """Tokens that the tier had computed already when it took the session last."""

    async def start(self, session: Session) -> None:
        """Opens the stream, so that the tier computes the prompt; raises as `verify` does."""
        await self._insist(session, lambda: self._open(session))

    async def verify(self, session: Session, draft: Draft) -> Evidence:
        """The evidence on a draft.

        Raises:
            TierUnavailableError: the target tier is lost and did not come back in time.
            ModelMismatchError: the tier serves another model by now.
            TierProtocolError: it answered nonsense, or says that it was asked nonsense.
            ForethoughtError: the tier refused; what it said.
        """
        answer = await self._insist(session, lambda: self._ask(session, draft))
        self.timings = answer.timings
        return answer.evidence

    async def _insist(self, session: Session, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Tries until it works, for as long as trying again can help."""
        self._give_up = None
        while True:
            try:
                return await attempt()
            except TimeoutError as error:
                self.close()
                raise TierUnavailableError("target tier: an opening goes unanswered") from error
            except ForethoughtError as error:
                self.close()
                if not self._can_mend(error):
                    _refuse(error)
                self._give_up = self._give_up or time.monotonic() + self._reopen.patience_s
                left_s = self._patience_left_s()
                if left_s <= 0:
                    raise TierUnavailableError(f"target tier: {error.message}") from error
                _log.warning(
                    "target_lost",
                    session_id=session.session_id,
                    reason=error.reason,
                    why=error.message,
                )
                wait_s = self._reopen.interval_s
                if isinstance(error, OverloadedError):
                    wait_s = max(wait_s, error.retry_after_s)
            await asyncio.sleep(min(wait_s, left_s))

    def _can_mend(self, error: ForethoughtError) -> bool:
        """Whether opening the stream again, now or a little later, can help."""
        if isinstance(error, OverloadedError):
            # A new request is the caller's to repeat. One that has begun would be lost.
            return self._was_open
        return is_lost(error) or isinstance(error, CachePositionMismatchError)

    def _patience_left_s(self) -> float:
        """Seconds until a lost target counts as gone."""
        if self._give_up is None:
            return self._reopen.patience_s
        return self._give_up - time.monotonic()

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
            self._model.vocabulary_fingerprint,
            self._model.model_fingerprint,
            session.mode,
            session.tenant,
        )
        async with asyncio.timeout(max(self._patience_left_s(), MIN_OPENING_S)):
            await stream.send(VerifyRequest(open=open_to_proto(opening)))
            response: VerifyResponse = await stream.receive()
        self._num_known_tokens = session.position
        if not response.HasField("opened"):
            raise TierProtocolError("the target tier did not answer the opening")
        self._was_open = True
        self.num_cached_tokens = response.opened.num_cached_tokens
        return stream


def _refuse(error: ForethoughtError) -> NoReturn:
    """Raises what the refusal of a tier means to the orchestrator's client."""
    if error.code == "INVALID_ARGUMENT":
        # The client's arguments were checked before. What is wrong was made here.
        raise TierProtocolError(f"the target tier refused our request: {error.message}") from error
    if isinstance(error, ModelMismatchError | VocabularyMismatchError):
        raise type(error)(
            "the target tier no longer serves the model that the orchestrator found when it "
            f"started; start the orchestrator again: {error.message}",
            metadata=error.metadata,
        ) from error
    raise error
