"""A session's stream to the draft tier: opened in a task, given up in time, and opened again.

Neither the start nor a round is held by a tier that cannot be reached. The first opening is waited
for like a draft, by the first round that wants one: the same seed is to give the same text, whether
the tier took the session a little sooner or later. What a round gave up on is taken when it comes,
and never waited for again. A lost stream is opened again, on another replica with the next round,
on the same one less and less often, and rounds go on without a draft until it is open. In the same
way sessions leave a replica that drains, or that owes an answer for longer than a round waits.
"""

import asyncio
import time
from enum import StrEnum

import structlog

from forethought.compatibility import foreign_hidden_states
from forethought.deployment import Standing
from forethought.errors import (
    ForethoughtError,
    HiddenStatesMismatchError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.generation import NoDraftReason
from forethought.rpc.codecs.tier.opening import open_to_proto, opened_from_proto
from forethought.tier import ModelInfo, PassCost, SessionOpen
from forethought.v1.draft_pb2 import SpeculateRequest, SpeculateResponse
from forethought.v1.draft_pb2_grpc import DraftServiceStub
from orchestrator.loop.round import Absence
from orchestrator.loop.session import Session
from orchestrator.replicas.replica import check_model
from orchestrator.tiers.backoff import Backoff
from orchestrator.tiers.faults import Fault
from orchestrator.tiers.patience import DraftPatience
from orchestrator.tiers.stream_keeper import NobodyThereError, StreamKeeper
from orchestrator.tiers.tier_stream import TierStream

_log = structlog.get_logger(__name__)


class Trouble(StrEnum):
    """Why rounds go without drafts, and wait for no opening; the name of its line in the log."""

    NONE = ""
    LATE = "draft_late"
    LOST = "draft_lost"
    LEFT = "draft_left"


class DraftStream:
    """Keeps a session's stream to the draft tier open, if it can.

    Args:
        keeper: of the stream.
        vocabulary_fingerprint: of the session's tokens.
        target: of the session; None is not checked.
        patience: how long to wait.
    """

    def __init__(
        self,
        keeper: StreamKeeper[DraftServiceStub],
        vocabulary_fingerprint: str,
        target: ModelInfo | None,
        patience: DraftPatience,
    ) -> None:
        self._keeper = keeper
        self._vocabulary_fingerprint = vocabulary_fingerprint
        self._target = target
        self._patience = patience
        self._backoff = Backoff(patience.first_backoff_s, patience.max_backoff_s)
        self._opening: asyncio.Task[ModelInfo] | None = None  # of the stream, until it is taken
        self._absence: Absence | None = None  # why the last draft that failed did
        self._trouble = Trouble.NONE
        self.due_since: float | None = None
        """When the answer that the tier owes was asked for; None where it owes none."""
        self.states_end = 0
        """Where the target's hidden states end that the replica was given."""
        self.model: ModelInfo | None = None
        """What the tier said last that it serves; None before it has."""
        self.mismatch: VocabularyMismatchError | None = None
        """Why the tier refused the session when it began, if that was its vocabulary."""

    # What is known of the tier.

    @property
    def absence(self) -> Absence | None:
        """Why no draft is to be had of the tier, as far as is known by now."""
        if self._absence is not None:
            return self._absence
        replicas = self._keeper.replicas.all
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
            known = (each.model for each in self._keeper.replicas.all if each.model is not None)
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
        if model is None and self._keeper.replica is not None:
            model = self._keeper.replica.model
        return model

    # Its life.

    def begin(self, session: Session) -> None:
        """Opens a stream in a task of its own, unless there is one or it is too early again."""
        if self._keeper.stream is not None or not self._backoff.is_over:
            return
        try:
            stream = self._keeper.connect(session)
        except NobodyThereError as error:
            self._backoff.begin_shortest()
            self._keeper.forgive()
            self._go_without(Trouble.LOST, session, why=error.message)
            return
        self.states_end = 0
        self._opening = asyncio.create_task(self._open(stream, session))
        # An opening that nobody asks for any more may fail in silence.
        self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def take(self, session: Session, give_up: float) -> TierStream | None:
        """The stream, once it is open; None where a round shall not wait for it.

        Args:
            session: of which all that is committed is told, where one is begun.
            give_up: until when the first opening is waited for.

        Raises:
            TimeoutError: the first opening is not answered in time.
            ForethoughtError: the opening failed.
        """
        self._leave_if_better(session)
        self.begin(session)
        if self._opening is not None:
            if not self._opening.done():
                if self._trouble:
                    return None
                await asyncio.wait((self._opening,), timeout=give_up - time.monotonic())
            if not self._opening.done():
                raise TimeoutError
            opening, self._opening = self._opening, None
            self.model = opening.result()
            self._keeper.opened()
        return self._keeper.stream

    def drafted(self) -> None:
        """A round has got its draft."""
        self._keeper.served()
        self._keeper.succeeded()
        self._backoff.succeeded()
        self._trouble = Trouble.NONE

    def is_late(self, session: Session) -> None:
        """A round has waited in vain; what is due may still come."""
        self._absence = Absence(NoDraftReason.LATE)
        self._go_without(Trouble.LATE, session, round=session.round)

    def lose(self, session: Session, error: ForethoughtError) -> None:
        """The stream failed, or its opening did."""
        keeper = self._keeper
        address = keeper.address
        self._forget_what_is_due()
        fault = keeper.fail(error)
        self._absence = _absence_by(error, fault)
        if keeper.goes_on_at_once():
            self._backoff.end()
        elif not keeper.has_other and _is_final(error):
            self._backoff.last_for_ever()
        else:
            if not keeper.has_other:
                keeper.forgive()
            self._backoff.begin()
        self._go_without(
            Trouble.LOST, session, address=address, reason=error.reason, why=error.message
        )

    def close(self) -> None:
        """Ends the stream."""
        self._forget_what_is_due()
        self._keeper.leave()

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
            if not self._trouble and not self._keeper.has_other:
                self.mismatch = error
            raise
        if not response.HasField("opened"):
            raise TierProtocolError("the draft tier answered an opening with something else")
        model = check_model(opened_from_proto(response.opened).model)
        why = "" if self._target is None else foreign_hidden_states(model, self._target)
        if why:
            raise HiddenStatesMismatchError(why)
        return model

    def _leave_if_better(self, session: Session) -> None:
        """Leaves a replica that drains or is silent, where there is another one."""
        keeper = self._keeper
        if keeper.should_leave:
            address = keeper.address
            self.close()
            self._backoff.end()
            self._go_without(Trouble.LEFT, session, address=address)
            return
        silent_s = 0.0 if self.due_since is None else time.monotonic() - self.due_since
        if silent_s > self._patience.round_s and keeper.has_other:
            self.lose(session, TierUnavailableError("the draft tier owes an answer"))

    def _forget_what_is_due(self) -> None:
        self.due_since = None
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None

    def _go_without(self, trouble: Trouble, session: Session, **why: object) -> None:
        """Notes why rounds go on without drafts; in the log where that is news."""
        if trouble is not self._trouble:
            _log.warning(trouble.value, session_id=session.session_id, **why)
        self._trouble = trouble


def _is_final(error: ForethoughtError) -> bool:
    """Whether opening the session again at the same replica must fail again: what a tier calls
    invalid once it will call invalid again, and what a draft was trained on stays."""
    return error.code == "INVALID_ARGUMENT" or isinstance(error, HiddenStatesMismatchError)


def _absence_by(error: ForethoughtError, fault: Fault) -> Absence:
    """What the loss of a draft means to a client. Where its replicas are is not for clients."""
    if fault is Fault.MISMATCH:
        return Absence(NoDraftReason.REFUSED, error.message)
    is_refused = error.code == "INVALID_ARGUMENT"
    return Absence(NoDraftReason.REFUSED if is_refused else NoDraftReason.DOWN)
