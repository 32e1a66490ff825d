"""Parallel verification by the target tier, over one stream to one of its replicas.

A stream that is lost is opened on another replica at once, and between two rounds sessions leave a
replica that drains. Where there is no other, patience begins.

A replica may also fail a round by a fault of its own: its pass fails, or its answer is nonsense.
Then every other replica is asked the round, with the same draws, before the client is told. Such a
failure counts against the replica if it is surely its fault, or once another one has answered:
whoever makes requests must not be able to have all replicas ejected.

Three things bound a target that does not answer. *Patience* bounds the search for a target once it
is lost, and the answer to an opening, which comes before the prompt is computed. A *round* may take
long, since it waits for that computation; only the deadline of the caller bounds it, or, where
another replica could take the session over, many times what it should take (`round_limit.py`). A
target that vanished during a round without a word is lost when the channel's *keep-alive* says so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeVar

import structlog

from forethought.deployment import Standing
from forethought.errors import (
    CachePositionMismatchError,
    ForethoughtError,
    ModelMismatchError,
    OpeningTimeoutError,
    OverloadedError,
    ReplicaFailedError,
    SessionIdleError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.generation import Waiting
from forethought.observability.traces import outgoing
from forethought.rpc.codecs.evidence_check import check_evidence
from forethought.rpc.codecs.tier_codec import (
    evidence_from_proto,
    open_to_proto,
    progress_from_proto,
    verify_to_proto,
)
from forethought.sampling.types import Draft
from forethought.tier import (
    DraftToVerify,
    EvidenceRound,
    ModelInfo,
    PrefillProgress,
    SessionOpen,
    VerifyRound,
)
from forethought.v1.target_pb2 import VerifyRequest, VerifyResponse
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.loop.session import Session
from orchestrator.replicas.placement import placement_key
from orchestrator.replicas.replica import Replica
from orchestrator.replicas.replica_set import ReplicaSet, as_replicas
from orchestrator.tiers.round_limit import RoundLimit, expected_pass_s
from orchestrator.tiers.tier_stream import (
    TierStream,
    is_broken_off,
    is_lost,
    is_own_fault,
    is_surely_own_fault,
)

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


class _NobodyThereError(TierUnavailableError):
    """No replica takes sessions at this moment."""


_NO_PREFILL = PrefillProgress(0, 0)

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
    """Time between two attempts where there is no other replica to go to. A target that is full
    says itself when to ask again."""
    opening_s: float = 2.0
    """How long an opening may go unanswered where there is another replica to go to."""
    round_limit: RoundLimit = field(default_factory=RoundLimit)
    """How long a round may take there."""


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
    """Keeps one stream to the target tier, and opens it again when it is lost.

    The round is then asked again from the whole prefix. Its draws are keyed by round and position,
    so the evidence is what it would have been.

    Args:
        targets: the tier's replicas, or the stub of its only one.
        model: what the target tier must serve; another one is refused.
        wanted: what evidence is to bring.
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
        self._replicas = as_replicas(targets)
        self._model = model
        self._wanted = wanted or WantedEvidence()
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._reopen = reopen or ReopenOptions()
        self._give_up: float | None = None  # patience begins with the first failure
        self._home: Replica[TargetServiceStub] | None = None  # that took the session last
        self._stream: TierStream | None = None
        self._replica: Replica[TargetServiceStub] | None = None  # of that stream
        self._tried: set[Replica[TargetServiceStub]] = set()  # and failed, in this search
        self._broken: set[Replica[TargetServiceStub]] = set()  # and failed the round by their fault
        self._suspects: set[Replica[TargetServiceStub]] = set()  # of them, those not blamed yet
        self._num_moves = 0  # rounds given up on in this search
        self._last_round_s = 0.0  # by our own clock
        self._key: bytes | None = None  # the session's beginning, for its placement
        self._prefill = _NO_PREFILL  # of the tokens that the stream was opened with
        self._num_known_tokens = 0  # tokens of the session that the tier has been told
        self._num_computed_tokens = 0  # of them, those that the replica had computed or found
        self.num_cached_tokens = 0
        """Tokens that the tier had computed already when it took the session last."""

    @property
    def num_replicas(self) -> int:
        """Replicas that sessions are spread over, as far as is known; at least one."""
        return max(sum(replica.is_healthy for replica in self._replicas.all), 1)

    async def start(self, session: Session) -> None:
        """Opens the stream, so that the tier computes the prompt; raises as `verify` does."""
        await self._insist(session, lambda: self._open(session))

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
        return await self._insist(
            session, lambda: self._ask(session, draft, next_is_plain=next_is_plain)
        )

    async def _insist(self, session: Session, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """Tries until it works, for as long as trying again can help."""
        self._give_up = None
        for failed in (self._tried, self._broken, self._suspects):
            failed.clear()
        self._num_moves = 0
        while True:
            try:
                result = await attempt()
            except TimeoutError as error:
                self.close()
                raise TierUnavailableError("target tier: an opening goes unanswered") from error
            except ForethoughtError as error:
                address = self._fail(error)
                if not self._can_mend(error):
                    _refuse(error)
                self._give_up = self._give_up or time.monotonic() + self._reopen.patience_s
                if self._patience_left_s() <= 0:
                    raise TierUnavailableError(f"target tier: {error.message}") from error
                _log.warning(
                    "target_lost",
                    session_id=session.session_id,
                    address=address,
                    reason=error.reason,
                    why=error.message,
                )
                await self._before_next_attempt(error)
            else:
                for suspect in self._suspects:
                    self._replicas.misserved(suspect, "another replica answers what it failed")
                return result

    @property
    def _avoided(self) -> set[Replica[TargetServiceStub]]:
        """Replicas that are not worth the next attempt."""
        return self._tried | self._broken

    def _fail(self, error: ForethoughtError) -> str:
        """Leaves the replica that failed; its address."""
        replica = self._replica
        self.close()
        if replica is None:
            return ""
        if isinstance(error, CachePositionMismatchError | OpeningTimeoutError | SessionIdleError):
            # It is well, and has the beginning of the session.
            return replica.address
        self._tried.add(replica)
        if isinstance(error, ModelMismatchError | VocabularyMismatchError):
            self._replicas.stands(replica, Standing.REFUSED, error.message)
        elif is_own_fault(error):
            self._broken.add(replica)
            if is_surely_own_fault(error):
                self._replicas.misserved(replica, error.message)
            else:
                self._suspects.add(replica)
        elif is_broken_off(error):
            self._replicas.lost(replica, error.message)
        return replica.address

    async def _before_next_attempt(self, error: ForethoughtError) -> None:
        """Returns at once where another replica is worth an attempt, else a little later."""
        is_first = len(self._avoided) == 1
        if self._replicas.has_other(self._avoided) and (is_first or self._replicas.budget.take()):
            return
        left_s = max(self._patience_left_s(), 0)
        if isinstance(error, _NobodyThereError):
            await self._replicas.change(left_s)
        elif isinstance(error, OverloadedError):
            await asyncio.sleep(min(max(self._reopen.interval_s, error.retry_after_s), left_s))
        else:
            await asyncio.sleep(min(self._reopen.interval_s, left_s))
        self._tried.clear()

    def _can_mend(self, error: ForethoughtError) -> bool:
        """Whether opening the stream again, now or a little later, can help."""
        if is_own_fault(error):
            # One that is not there now may come back within patience.
            return self._replicas.may_have_other(self._broken)
        has_other = self._replicas.has_other(self._avoided)
        if isinstance(error, OverloadedError):
            # A new request is the caller's to repeat. One that has begun would be lost.
            return self._home is not None or has_other
        if isinstance(error, ModelMismatchError | VocabularyMismatchError):
            return has_other
        return is_lost(error) or isinstance(error, CachePositionMismatchError)

    def _patience_left_s(self) -> float:
        """Seconds until a lost target counts as gone."""
        if self._give_up is None:
            return self._reopen.patience_s
        return self._give_up - time.monotonic()

    def close(self) -> None:
        """Ends the stream."""
        if self._replica is not None:
            self._replicas.leave(self._replica)
            self._replica = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    async def _ask(self, session: Session, draft: Draft, *, next_is_plain: bool) -> EvidenceRound:
        if self._replica is not None and self._replicas.should_leave(self._replica):
            _log.info("target_left", session_id=session.session_id, address=self._replica.address)
            self.close()
        stream = self._stream or await self._open(session)
        request = VerifyRound(
            round=session.round,
            position=session.position,
            committed_token_ids=session.token_ids[self._num_known_tokens :],
            drafts=[
                DraftToVerify(token.token_id, token.support_token_ids) for token in draft.tokens
            ],
            num_logprobs=self._wanted.num_logprobs,
            wants_hidden_states=self._wanted.hidden_states(),
            next_is_plain=next_is_plain,
        )
        asked_at = time.monotonic()
        await stream.send(VerifyRequest(round=verify_to_proto(request)))
        self._num_known_tokens = session.position
        response = await self._receive(stream, session.position + len(draft))
        answer = evidence_from_proto(response.evidence)
        check_evidence(answer, request, self._model, is_greedy=session.sampling.is_greedy)
        self._num_computed_tokens = session.position
        self._last_round_s = time.monotonic() - asked_at
        self._prefill = _NO_PREFILL
        if self._replica is not None:
            self._replicas.served(self._replica)
        return answer

    async def _receive(self, stream: TierStream, num_tokens: int) -> VerifyResponse:
        """The answer to a round over so many tokens of context.

        Raises:
            TierUnavailableError: it takes too long, and another replica may be faster.
        """
        if len(self._replicas.all) == 1:
            # With nothing to look out for, a token costs no more than it must.
            ask = self._next_answer(stream, None) if self._wanted.progress else stream.receive()
            answer: VerifyResponse = await ask
            return answer
        num_new_tokens = num_tokens - self._num_computed_tokens
        expected_s = max(
            expected_pass_s(self._model.pass_costs, num_new_tokens), self._last_round_s
        )
        limit_s = self._reopen.round_limit.seconds(expected_s, self._num_moves)
        while True:
            try:
                return await self._next_answer(stream, limit_s)
            except TimeoutError:
                if self._replicas.has_other(self._avoided | {self._replica}):
                    self._num_moves += 1
                    raise TierUnavailableError(f"no evidence within {limit_s:.1f} s") from None

    async def _next_answer(self, stream: TierStream, limit_s: float | None) -> VerifyResponse:
        """The next answer, within the limit. What comes before it says how far it is."""
        deadline = None if limit_s is None else time.monotonic() + limit_s
        while True:
            left_s = None if deadline is None else max(deadline - time.monotonic(), 0)
            response: VerifyResponse = await stream.receive(left_s)
            if not response.HasField("progress"):
                return response
            num_tokens = self._prefill.num_tokens
            num_computed = progress_from_proto(response.progress).num_computed_tokens
            self._prefill = PrefillProgress(min(num_computed, num_tokens), num_tokens)

    async def _open(self, session: Session) -> TierStream:
        replica = self._choose(session)
        timeout_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0)
        stream = TierStream(replica.stub.Verify(timeout=timeout_s, metadata=outgoing()))
        self._stream, self._replica = stream, replica
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
        self._num_known_tokens = session.position
        if not response.HasField("opened"):
            raise TierProtocolError("the target tier did not answer the opening")
        num_cached = response.opened.num_cached_tokens
        if num_cached > session.position:
            raise TierProtocolError("the target tier has more tokens cached than the session has")
        self._num_computed_tokens = self.num_cached_tokens = num_cached
        self._prefill = PrefillProgress(num_cached, session.position - 1)
        self._replicas.took(replica, self._home)
        self._home = replica
        return stream

    @property
    def waiting(self) -> Waiting | None:
        """What a round waits for that takes long, as far as anything is known of it."""
        prefill = self._prefill
        if self._stream is None:
            is_lost = self._give_up is not None
            return Waiting(0, prefill.num_tokens, is_target_lost=True) if is_lost else None
        if prefill.num_computed_tokens >= prefill.num_tokens:
            return None
        return Waiting(prefill.num_computed_tokens, prefill.num_tokens)

    def _num_missing_states(self, session: Session) -> int:
        """Of the session's last tokens, how many to give the hidden states of, besides those that
        rounds bring."""
        known = session.hidden_states
        if not self._wanted.hidden_states():
            return 0
        has_all = known is not None and known.end == session.position - 1
        return 0 if has_all else session.max_hidden_states

    def _choose(self, session: Session) -> Replica[TargetServiceStub]:
        if self._key is None:
            # Of the beginning, once: a session that grows stays where it is at home.
            self._key = placement_key(session.token_ids, session.tenant)
        replica = self._replicas.choose(self._key, self._avoided)
        if replica is None:
            raise _NobodyThereError("no replica is there")
        return replica

    async def _exchange_opening(self, stream: TierStream, opening: SessionOpen) -> VerifyResponse:
        """Sends the opening, and takes its answer, which comes before the prompt is computed.

        Raises:
            TimeoutError: there is no answer, and nobody else to ask.
            TierUnavailableError: there is no answer from this replica.
        """
        limit_s = max(self._patience_left_s(), MIN_OPENING_S)
        has_other = self._replicas.has_other(self._avoided | {self._replica})
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


def _refuse(error: ForethoughtError) -> NoReturn:
    """Raises what the refusal of a tier means to the orchestrator's client."""
    if error.code == "INVALID_ARGUMENT":
        # The client's arguments were checked before. What is wrong was made here.
        raise TierProtocolError(f"the target tier refused our request: {error.message}") from error
    if isinstance(error, ModelMismatchError | VocabularyMismatchError):
        raise type(error)(
            "no replica of the target tier serves the model that the orchestrator found when it "
            f"started; start the orchestrator again: {error.message}",
            metadata=error.metadata,
        ) from error
    if is_own_fault(error) and not isinstance(error, TierProtocolError):
        raise ReplicaFailedError(f"every target replica failed: {error.message}") from error
    raise error
