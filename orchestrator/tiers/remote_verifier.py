"""Parallel verification by the target tier: what a round asks, and what its answer means.

Two things bound a target that does not answer. *Patience* bounds the search for a target once it
is lost (`target_search.py`), and the answer to an opening, which comes before the prompt is
computed. What bounds a *round* says `target_answers.py`.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from forethought.errors import TierProtocolError, TierUnavailableError
from forethought.generation import Waiting
from forethought.observability.traces import outgoing
from forethought.rpc.codecs.tier.evidence import evidence_from_proto, verify_to_proto
from forethought.rpc.codecs.tier.evidence_check import check_evidence
from forethought.rpc.codecs.tier.opening import open_to_proto
from forethought.sampling.types import Draft
from forethought.tier import (
    DraftToVerify,
    EvidenceRound,
    ModelInfo,
    SessionOpen,
    VerifyRound,
)
from forethought.v1.target_pb2 import VerifyRequest, VerifyResponse
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.loop.session import Session
from orchestrator.replicas.replica_set import ReplicaSet, as_replicas
from orchestrator.tiers.patience import MIN_OPENING_S, ReopenOptions
from orchestrator.tiers.stream_keeper import StreamKeeper, StreamState
from orchestrator.tiers.target_answers import TargetAnswers
from orchestrator.tiers.target_search import TargetSearch
from orchestrator.tiers.tier_stream import TierStream

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WantedEvidence:
    """What evidence is to bring besides probabilities."""

    num_logprobs: int | None = None
    """Top log-probabilities at each position; None wants none at all."""
    hidden_states: Callable[[], bool] = lambda: False
    """Whether the draft guesses from the target's hidden states, as far as is known by now."""
    progress: bool = False
    """Whether the target is to say how far the prompt is, while it takes long."""


class RemoteVerifier:
    """One session's, over one stream to the target tier.

    A round whose stream is lost is asked again from the whole prefix. Its draws are keyed by round
    and position, so the evidence is what it would have been.

    Args:
        targets: the tier's replicas, or the stub of its only one.
        model: what the target tier must serve; another one is refused.
        wanted: what evidence is to bring.
        deadline_s: of all that the session does, from now on.
        reopen: how a target that is lost is looked for.
    """

    def __init__(
        self,
        targets: ReplicaSet[TargetServiceStub] | TargetServiceStub,
        model: ModelInfo,
        *,
        wanted: WantedEvidence | None = None,
        deadline_s: float | None = None,
        reopen: ReopenOptions | None = None,
    ) -> None:
        self._model = model
        self._wanted = wanted or WantedEvidence()
        self._reopen = reopen or ReopenOptions()
        self._keeper = StreamKeeper(
            as_replicas(targets),
            lambda stub, timeout_s: stub.Verify(timeout=timeout_s, metadata=outgoing()),
            deadline_s,
        )
        self._search = TargetSearch(self._keeper, self._reopen)
        self._answers = TargetAnswers(
            self._keeper,
            self._search,
            model,
            self._reopen.round_limit,
            has_progress=self._wanted.progress,
        )
        self.num_cached_tokens = 0
        """Tokens that the tier had computed already when it took the session last."""

    @property
    def num_replicas(self) -> int:
        """Replicas that sessions are spread over, as far as is known; at least one."""
        return max(sum(replica.is_healthy for replica in self._keeper.replicas.all), 1)

    @property
    def waiting(self) -> Waiting | None:
        """What a round waits for that takes long, as far as anything is known of it."""
        prefill = self._answers.prefill
        match self._keeper.state:
            case StreamState.NONE:
                return None
            case StreamState.LOST:
                return Waiting(0, prefill.num_tokens, is_target_lost=True)
            case StreamState.OPENING | StreamState.OPEN:
                is_computed = prefill.num_computed_tokens >= prefill.num_tokens
                waiting = Waiting(prefill.num_computed_tokens, prefill.num_tokens)
                return None if is_computed else waiting

    def place_with(self, session: Session) -> None:
        """Has the session that is verified go where this one goes, whose beginning it may share."""
        self._keeper.place_with(session)

    async def start(self, session: Session) -> None:
        """Opens the stream, so that the tier computes the prompt; raises as `verify` does."""
        await self._search.run(session.session_id, lambda: self._open(session))

    async def verify(
        self, session: Session, draft: Draft, *, next_is_plain: bool = False
    ) -> EvidenceRound:
        """The evidence on a draft; arguments as in `Verifier`.

        Raises:
            TierUnavailableError: the target tier is lost and did not come back in time.
            ModelMismatchError: the tier serves another model by now.
            TierProtocolError: it answered nonsense, or says that it was asked nonsense.
            ForethoughtError: the tier refused; what it said.
        """
        return await self._search.run(
            session.session_id, lambda: self._ask(session, draft, next_is_plain=next_is_plain)
        )

    def close(self) -> None:
        """Ends the stream."""
        self._keeper.leave()

    async def _open(self, session: Session) -> TierStream:
        stream = self._keeper.connect(session)
        opening = SessionOpen(
            session.session_id,
            session.token_ids,
            session.sampling,
            self._model.vocabulary_fingerprint,
            self._model.model_fingerprint,
            session.mode,
            session.tenant,
            self._num_missing_states(session),
            self._wanted.progress,
        )
        response = await self._exchange_opening(stream, opening)
        if not response.HasField("opened"):
            raise TierProtocolError("the target tier did not answer the opening")
        num_cached = response.opened.num_cached_tokens
        if num_cached > session.position:
            raise TierProtocolError("the target tier has more tokens cached than the session has")
        self.num_cached_tokens = num_cached
        self._answers.opened(num_cached, session.position)
        self._keeper.opened()
        return stream

    def _num_missing_states(self, session: Session) -> int:
        """Of the session's last tokens, how many to give the hidden states of, besides those that
        rounds bring."""
        known = session.hidden_states
        if not self._wanted.hidden_states():
            return 0
        has_all = known is not None and known.end == session.position - 1
        return 0 if has_all else session.max_hidden_states

    async def _exchange_opening(self, stream: TierStream, opening: SessionOpen) -> VerifyResponse:
        """Sends the opening, and takes its answer, which comes before the prompt is computed.

        Raises:
            TimeoutError: there is no answer, and nobody else to ask.
            TierUnavailableError: there is no answer from this replica.
        """
        limit_s = max(self._search.patience_left_s, MIN_OPENING_S)
        has_other = self._keeper.has_other
        if has_other:
            limit_s = min(limit_s, self._reopen.opening_s)
        try:
            async with asyncio.timeout(limit_s):
                await stream.send(VerifyRequest(open=open_to_proto(opening)))
                response: VerifyResponse = await stream.receive()
        except TimeoutError:
            if not has_other:
                raise
            raise TierUnavailableError("an opening goes unanswered") from None
        return response

    async def _ask(self, session: Session, draft: Draft, *, next_is_plain: bool) -> EvidenceRound:
        keeper = self._keeper
        if keeper.should_leave:
            _log.info("target_left", session_id=session.session_id, address=keeper.address)
            keeper.leave()
        stream = keeper.stream or await self._open(session)
        request = VerifyRound(
            round=session.round,
            position=session.position,
            committed_token_ids=keeper.untold(session),
            drafts=[
                DraftToVerify(token.token_id, token.support_token_ids) for token in draft.tokens
            ],
            num_logprobs=self._wanted.num_logprobs,
            wants_hidden_states=self._wanted.hidden_states(),
            next_is_plain=next_is_plain,
        )
        asked_at = time.monotonic()
        await stream.send(VerifyRequest(round=verify_to_proto(request)))
        keeper.told(session)
        response = await self._answers.receive(stream, session.position + len(draft))
        answer = evidence_from_proto(response.evidence)
        check_evidence(answer, request, self._model, is_greedy=session.sampling.is_greedy)
        self._answers.took(time.monotonic() - asked_at, session.position)
        keeper.served()
        return answer
