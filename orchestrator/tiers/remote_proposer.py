"""Speculation by the draft tier, over one stream to one of its replicas, while there is one.

A session never depends on its draft. A tier that is missing, late or failing means an empty draft,
K = 0 for that round; so does one that guesses from another target's hidden states. Only a draft
with another vocabulary is an error, and only when the session begins, since it will not mend
itself.

Streams are opened in a task, so that neither the start nor a round is held by a tier that cannot be
reached. The first opening is waited for like a draft, by the first round that wants one: the same
seed is to give the same text, whether the tier took the session a little sooner or later. What a
round gave up on is taken when it comes, and never waited for again. A lost stream is opened again,
on another replica with the next round, on the same one less and less often, and rounds go on
without a draft until it is open. In the same way sessions leave a replica that drains, or that owes
an answer for longer than a round waits.
"""

import asyncio
import math
import time
from dataclasses import dataclass

import structlog

from forethought.compatibility import foreign_hidden_states
from forethought.deployment import Standing
from forethought.errors import (
    ForethoughtError,
    HiddenStatesMismatchError,
    SessionIdleError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.generation import NoDraftReason
from forethought.observability.traces import outgoing
from forethought.rpc.codecs.tier_codec import (
    draft_from_proto,
    open_to_proto,
    opened_from_proto,
    speculate_to_proto,
)
from forethought.sampling.hidden_states import HiddenStates
from forethought.sampling.types import VerificationMode
from forethought.tier import (
    DraftRound,
    ModelInfo,
    PassCost,
    SessionOpen,
    SpeculateRound,
)
from forethought.v1.draft_pb2 import SpeculateRequest, SpeculateResponse
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from orchestrator.loop.round import Ask, Drafted
from orchestrator.loop.session import Session
from orchestrator.replicas.placement import placement_key
from orchestrator.replicas.replica import Replica, check_model
from orchestrator.replicas.replica_set import ReplicaSet, as_replicas
from orchestrator.tiers.lookup_first import Absence
from orchestrator.tiers.tier_stream import (
    TierStream,
    is_broken_off,
    is_own_fault,
    is_surely_own_fault,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DraftPatience:
    """How long a session waits for its draft."""

    open_s: float = 0.25
    """For the tier to take a request off our hands: the opening of a stream, with the time that a
    connection takes, or a round."""
    round_s: float = 2.0
    """A round waits so long for its draft, and the first one for the opening too. A late draft is
    dropped when it comes, and none is asked for until then."""
    first_backoff_s: float = 0.25
    """Until a lost stream is opened again; doubles with each failure."""
    max_backoff_s: float = 10.0
    """Longest time between two attempts."""


class RemoteProposer:
    """Keeps one stream to the draft tier, if it can."""

    def __init__(
        self,
        drafts: ReplicaSet[DraftServiceStub] | DraftServiceStub,
        vocabulary_fingerprint: str,
        *,
        target: ModelInfo | None = None,
        deadline_s: float | None = None,
        patience: DraftPatience | None = None,
    ) -> None:
        self._replicas = as_replicas(drafts)
        self._replica: Replica[DraftServiceStub] | None = None  # of the stream
        self._home: Replica[DraftServiceStub] | None = None  # that took the session last
        self._tried: set[Replica[DraftServiceStub]] = set()  # and failed since the last draft
        self._suspects: set[Replica[DraftServiceStub]] = set()  # of them, those not blamed yet
        self._key: bytes | None = None  # the session's beginning, for its placement
        self._vocabulary_fingerprint = vocabulary_fingerprint
        self._target = target  # None is not checked
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._patience = patience or DraftPatience()
        self._stream: TierStream | None = None
        self._opening: asyncio.Task[ModelInfo] | None = None  # of that stream, until it is taken
        self._num_known_tokens = 0  # tokens of the session that the tier has been told
        self._known_states_end = 0  # and where the target's hidden states end that it was given
        self._is_answer_due = False  # a round is not answered yet
        self._due_since = 0.0
        self._absence: Absence | None = None  # why the last draft that failed did
        self._trouble = ""  # why rounds go without a draft, and wait for no opening
        self._backoff_s = self._patience.first_backoff_s
        self._retry_at = 0.0
        self.num_failures = 0
        """Rounds that wanted a draft and got none because of the tier."""
        self.model: ModelInfo | None = None
        """What the tier said last that it serves; None before it has."""
        self.mismatch: VocabularyMismatchError | None = None
        """Why the tier refused the session when it began, if that was its vocabulary."""

    @property
    def absence(self) -> Absence | None:
        """Why no draft is to be had of the tier, as far as is known by now."""
        if self._absence is not None:
            return self._absence
        replicas = self._replicas.all
        refused = [each.why for each in replicas if each.standing is Standing.REFUSED]
        if refused and len(refused) == len(replicas):
            return Absence(NoDraftReason.REFUSED, "; ".join(dict.fromkeys(refused)))
        is_there = any(each.is_answering for each in replicas)
        return None if is_there else Absence(NoDraftReason.DOWN)

    @property
    def pass_costs(self) -> tuple[PassCost, ...]:
        """What the tier says of its passes: the session's replica, or before it has one any other;
        () where none has, or makes any."""
        model = self._known_model
        if model is None:
            known = (each.model for each in self._replicas.all if each.model is not None)
            model = next(known, None)
        return () if model is None else model.pass_costs

    @property
    def wants_hidden_states(self) -> bool:
        """Whether the session's draft guesses from the target's hidden states, as far as is known
        by now."""
        model = self._known_model
        return (
            model is not None
            and model.hidden_states_need is not None
            and (self._target is None or not foreign_hidden_states(model, self._target))
        )

    @property
    def _known_model(self) -> ModelInfo | None:
        """What the session's replica serves, as far as is known by now."""
        opening, model = self._opening, self.model
        is_open = opening is not None and opening.done() and not opening.cancelled()
        if model is None and opening is not None and is_open and not opening.exception():
            model = opening.result()
        if model is None and self._replica is not None:
            model = self._replica.model
        return model

    def start(self, session: Session) -> None:
        """Begins to open the stream, so that the tier computes the prompt while the target does.

        Of a draft with another vocabulary `mismatch` tells.
        """
        self._begin(session)

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        """A draft of at most K tokens, or an empty one. Never raises.

        K is cut to what the draft's model takes. Beyond its length there is no draft, which is no
        failure.
        """
        k = ask.num_speculative_tokens
        wait_s = self._patience.round_s
        if ask.timeout_s is not None:
            wait_s = min(wait_s, ask.timeout_s)
        give_up = time.monotonic() + wait_s
        try:
            if not self._num_wanted(session, k):
                if ask.prepares and self._stream is None and time.monotonic() >= self._retry_at:
                    self._begin(session)
                return Drafted()
            self._leave_if_better(session)
            drafted = await self._draft_of_tier(session, k, give_up)
            if drafted is not None:
                return drafted
        except TimeoutError:
            self._absence = Absence(NoDraftReason.LATE)
            self._go_without("draft_late", session, round=session.round)
        except ForethoughtError as error:
            self._lose(session, error)
        self.num_failures += 1
        return Drafted(has_failed=True)

    async def _draft_of_tier(self, session: Session, k: int, give_up: float) -> Drafted | None:
        """The tier's draft; None where a round shall not wait for its stream to open."""
        stream = await self._open_stream(session, give_up)
        if stream is None:
            return None
        try:
            return await self._ask(stream, session, self._num_wanted(session, k), give_up)
        except SessionIdleError:
            # The tier is well: it had not been asked for long.
            self.close()
        stream = await self._open_stream(session, give_up)
        if stream is None:
            return None
        return await self._ask(stream, session, self._num_wanted(session, k), give_up)

    def close(self) -> None:
        """Ends the stream."""
        if self._replica is not None:
            self._replicas.leave(self._replica)
            self._replica = None
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        self._is_answer_due = False

    def _num_wanted(self, session: Session, k: int) -> int:
        """K, or less where the draft's model says so. What it leaves at 0 it does not say."""
        model = self.model
        if model is not None and model.max_num_speculative_tokens:
            k = min(k, model.max_num_speculative_tokens)
        if model is not None and model.max_model_len:
            k = min(k, model.max_model_len - session.position)
        return max(k, 0)

    async def _ask(self, stream: TierStream, session: Session, k: int, give_up: float) -> Drafted:
        """One draft, within the patience of a round."""
        if not k:
            return Drafted()
        if self._is_answer_due:
            # An earlier round gave up on it.
            await self._receive(stream, 0)
        request = SpeculateRound(
            round=session.round,
            position=session.position,
            committed_token_ids=session.token_ids[self._num_known_tokens :],
            num_speculative_tokens=k,
            hidden_states=self._untold_states(session),
        )
        left_s = max(give_up - time.monotonic(), 0)
        message = SpeculateRequest(round=speculate_to_proto(request))
        await stream.send(message, min(self._patience.open_s, left_s))
        self._num_known_tokens = session.position
        if request.hidden_states is not None:
            self._known_states_end = request.hidden_states.end
        self._is_answer_due = True
        self._due_since = time.monotonic()
        response = await self._receive(stream, max(give_up - time.monotonic(), 0))
        answer = draft_from_proto(response.draft)
        self._check(answer, request, session.mode)
        if self._replica is not None:
            self._replicas.served(self._replica)
        for suspect in self._suspects - {self._replica}:
            self._replicas.misserved(suspect, "another replica answers what it failed")
        self._suspects.clear()
        self._backoff_s = self._patience.first_backoff_s
        self._trouble = ""
        self._tried.clear()
        return Drafted(answer.draft, answer.timings)

    def _untold_states(self, session: Session) -> HiddenStates | None:
        """The target's hidden states that the draft needs and was not given yet."""
        if session.hidden_states is None or not self.wants_hidden_states:
            return None
        last = session.position - 1
        self._known_states_end = min(self._known_states_end, last)
        return session.hidden_states.within(self._known_states_end, last)

    def _check(self, answer: DraftRound, request: SpeculateRound, mode: VerificationMode) -> None:
        """Refuses here what the target would refuse, and with it the whole request."""
        if (answer.round, answer.position) != (request.round, request.position):
            raise TierProtocolError("the draft tier answered another round")
        if len(answer.draft) > request.num_speculative_tokens:
            raise TierProtocolError("the draft tier drafted more tokens than were asked for")
        if mode is not VerificationMode.COUPLED and not all(
            len(token.draft_probs) for token in answer.draft.tokens
        ):
            raise TierProtocolError("the draft tier does not say how likely its guesses were")
        if self._target is not None and any(
            max(token.support_token_ids) >= self._target.vocab_size for token in answer.draft.tokens
        ):
            raise TierProtocolError("the draft tier drafted tokens that the target does not have")

    def _leave_if_better(self, session: Session) -> None:
        """Leaves a replica that drains or is silent, where there is another one."""
        replica = self._replica
        if replica is None:
            return
        if self._replicas.should_leave(replica):
            self.close()
            self._retry_at = 0.0
            self._go_without("draft_left", session, address=replica.address)
            return
        silent_s = time.monotonic() - self._due_since if self._is_answer_due else 0.0
        if silent_s > self._patience.round_s and self._replicas.has_other({*self._tried, replica}):
            self._lose(session, TierUnavailableError("the draft tier owes an answer"))

    def _begin(self, session: Session) -> None:
        """Opens a stream in a task of its own, where there is a replica to open it on."""
        if self._key is None:
            self._key = placement_key(session.token_ids, session.tenant)
        replica = self._replicas.choose(self._key, self._tried)
        if replica is None:
            self._retry_at = time.monotonic() + self._patience.first_backoff_s
            self._tried.clear()
            self._go_without("draft_lost", session, why="no replica is there")
            return
        timeout_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0)
        self._replica = replica
        self._stream = TierStream(replica.stub.Speculate(timeout=timeout_s, metadata=outgoing()))
        self._num_known_tokens = session.position
        self._known_states_end = 0
        self._opening = asyncio.create_task(self._open(self._stream, session))
        # An opening that nobody asks for any more may fail in silence.
        self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _open(self, stream: TierStream, session: Session) -> ModelInfo:
        """Sends the opening and takes its answer, which comes before the prompt is computed."""
        opening = SessionOpen(
            session.session_id,
            session.token_ids,
            session.sampling,
            self._vocabulary_fingerprint,
            mode=session.mode,
            tenant=session.tenant,
        )
        try:
            request = SpeculateRequest(open=open_to_proto(opening))
            await stream.send(request, self._patience.open_s)
            response: SpeculateResponse = await stream.receive()
        except VocabularyMismatchError as error:
            if not self._trouble and not self._replicas.has_other((self._replica,)):
                self.mismatch = error
            raise
        if not response.HasField("opened"):
            raise TierProtocolError("the draft tier answered an opening with something else")
        model = check_model(opened_from_proto(response.opened).model)
        why = "" if self._target is None else foreign_hidden_states(model, self._target)
        if why:
            raise HiddenStatesMismatchError(why)
        return model

    async def _open_stream(self, session: Session, give_up: float) -> TierStream | None:
        """The stream, once it is open; None where a round shall not wait for it.

        Raises:
            TimeoutError: the first opening is not answered in time.
            ForethoughtError: the opening failed.
        """
        if self._stream is None and time.monotonic() >= self._retry_at:
            self._begin(session)
        if self._opening is not None:
            if not self._opening.done():
                if self._trouble:
                    return None
                await asyncio.wait((self._opening,), timeout=give_up - time.monotonic())
            if not self._opening.done():
                raise TimeoutError
            opening, self._opening = self._opening, None
            self.model = opening.result()
            self._replicas.took(self._replica, self._home)
            self._home = self._replica
        return self._stream

    async def _receive(self, stream: TierStream, timeout_s: float) -> SpeculateResponse:
        response: SpeculateResponse = await stream.receive(timeout_s)
        self._is_answer_due = False
        return response

    def _lose(self, session: Session, error: ForethoughtError) -> None:
        replica = self._replica
        self.close()
        self._absence = _absence_by(error)
        self._retry_at = time.monotonic() + self._backoff_s
        if replica is not None:
            self._tried.add(replica)
            self._report(replica, error)
        if self._replicas.has_other(self._tried):
            if len(self._tried) == 1 or self._replicas.budget.take():
                self._retry_at = 0.0
        else:
            self._tried.clear()
            self._backoff_s = min(2 * self._backoff_s, self._patience.max_backoff_s)
            if error.code == "INVALID_ARGUMENT" or isinstance(error, HiddenStatesMismatchError):
                # What a tier calls invalid once it will call invalid again, and what a draft was
                # trained on stays.
                self._retry_at = math.inf
        address = "" if replica is None else replica.address
        self._go_without(
            "draft_lost", session, address=address, reason=error.reason, why=error.message
        )

    def _report(self, replica: Replica[DraftServiceStub], error: ForethoughtError) -> None:
        """Lets other sessions know."""
        if isinstance(error, VocabularyMismatchError | HiddenStatesMismatchError):
            self._replicas.stands(replica, Standing.REFUSED, error.message)
        elif is_surely_own_fault(error):
            self._replicas.misserved(replica, error.message)
        elif is_own_fault(error):
            self._suspects.add(replica)
        elif is_broken_off(error):
            self._replicas.lost(replica, error.message)

    def _go_without(self, event: str, session: Session, **why: object) -> None:
        """Notes why rounds go on without drafts; in the log where that is news."""
        if event != self._trouble:
            _log.warning(event, session_id=session.session_id, **why)
        self._trouble = event


def _absence_by(error: ForethoughtError) -> Absence:
    """What the loss of a draft means to a client. Where its replicas are is not for clients."""
    if isinstance(error, VocabularyMismatchError | HiddenStatesMismatchError):
        return Absence(NoDraftReason.REFUSED, error.message)
    if error.code == "INVALID_ARGUMENT":
        return Absence(NoDraftReason.REFUSED)
    return Absence(NoDraftReason.DOWN)
