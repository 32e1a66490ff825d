"""Sessions that outlive the process that generates them.

Whoever begins a session owns it: it stores each round before a client hears of it
(`session_log.py`). Resuming one takes it over from an owner that may be alive and only out of
the client's reach, and which is refused at its next round. The next turn of a conversation is
polite, and takes only what nobody generates.

A session is claimed when its generation can begin, after every check and after the target has taken
it. A request that is refused leaves the session with its owner.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from forethought.errors import (
    ForethoughtError,
    InvalidArgumentError,
    ModelMismatchError,
    SessionCancelledError,
    SessionIncompleteError,
    SessionInUseError,
    SessionNotFoundError,
    SessionUnfinishedError,
    StoreUnavailableError,
)
from forethought.generation import (
    FollowUp,
    GenerationRequest,
    Resume,
    SessionContent,
    SessionInfo,
    SessionStatus,
)
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.sessions import records
from forethought.store.sessions.records import (
    CommittedRound,
    Lease,
    SessionRecord,
    SessionSummary,
    new_owner,
    new_session_id,
)
from forethought.store.sessions.session_store import SessionStore, SessionStoreSettings
from orchestrator.request.bounds import MESSAGE_BYTES
from orchestrator.request.conversation import next_turn
from orchestrator.request.output import Output
from orchestrator.request.plan import Deployment, GenerationPlan, plan_generation
from orchestrator.request.text_pool import TextQueue
from orchestrator.sessions.session_log import (
    Background,
    ClaimedLog,
    NothingToStore,
    OwnedRecord,
    SessionLog,
    StoredSession,
)
from orchestrator.sessions.stored_plan import check_record, head_of, is_reproducible, plan_of
from orchestrator.sessions.stored_round import unpack_told

WRITE_TIMEOUT_S = 0.3
"""For calls that bring some rounds."""

READ_TIMEOUT_S = 2.0
"""For calls that bring whole records. They hold up only the client that asks for one."""


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where a generation stands when it begins."""

    session_id: str
    plan: GenerationPlan
    rounds: tuple[CommittedRound, ...] = ()  # of the turn, committed before
    next_index: int = 0  # of the first token that the client is to get
    is_logged: bool = False  # rounds go to a store
    claim: Callable[[], Awaitable[tuple[CommittedRound, ...]]] | None = None
    """Takes the session from whoever has it, and returns its rounds by then; None where it is ours,
    or only told again."""


def unstored(plan: GenerationPlan) -> tuple[ResumePoint, SessionLog]:
    """A session where there is no store."""
    return ResumePoint(new_session_id(), plan), NothingToStore()


class Sessions:
    """The sessions of one store, as one orchestrator works with them.

    Args:
        url: of the store.
        address: of this orchestrator.
        settings: how long things live.
        timeout_s: for storing rounds; a store that hangs holds up each client for so long, once.
        commit_interval_s: from one write of a session to the next, at least.
    """

    def __init__(
        self,
        url: str,
        address: str,
        settings: SessionStoreSettings | None = None,
        *,
        timeout_s: float = WRITE_TIMEOUT_S,
        commit_interval_s: float = 0.0,
    ) -> None:
        self.commit_interval_s = commit_interval_s
        self._address = address
        self._connections = (
            StoreConnection(ConnectionSettings(url, timeout_s=timeout_s)),
            StoreConnection(ConnectionSettings(url, timeout_s=READ_TIMEOUT_S)),
        )
        # One breaker each: a long record that is late says nothing of a short append.
        self._store, self._patient_store = (
            SessionStore(connection, settings) for connection in self._connections
        )
        self.background = Background()

    async def close(self) -> None:
        """Ends what goes on behind calls, and the connections."""
        await self.background.close()
        for connection in self._connections:
            await connection.close()

    async def why_away(self) -> str:
        """Asks the store whether it is there; empty where it is."""
        try:
            await self._store.load("", new_session_id())
        except StoreUnavailableError as error:
            return error.message
        except SessionNotFoundError:
            pass
        return ""

    def begin(self, plan: GenerationPlan, deployment: Deployment) -> tuple[ResumePoint, SessionLog]:
        """A new session. It is stored with its first round."""
        session_id = new_session_id()
        head = head_of(plan, session_id, deployment.target.model_fingerprint)
        owned = OwnedRecord(head, new_owner(self._address))
        log = StoredSession(self._store, owned, self.background)
        return ResumePoint(session_id, plan, is_logged=True), log

    async def resume(
        self, tenant: str, asked: Resume, deployment: Deployment
    ) -> tuple[ResumePoint, SessionLog]:
        """The rest of a turn. One that is finished is only told again.

        Raises:
            SessionNotFoundError: there is none for this tenant.
            ModelMismatchError: it was begun with another model.
            SessionCancelledError: somebody ended it.
            SessionIncompleteError: the client has more tokens than the store, and what follows
                those in the store would not be what the client has.
            StoreUnavailableError: the store is away.
        """
        record = await self._load(tenant, asked.session_id, deployment)
        _refuse_cancelled(record)
        plan = plan_of(record.head)
        _check_next_index(asked.next_index, plan, record)
        resume_point = ResumePoint(
            asked.session_id, plan, record.rounds, asked.next_index, is_logged=True
        )
        if record.summary.status is records.SessionStatus.FINISHED:
            return resume_point, NothingToStore(is_durable=True)

        async def claim() -> StoredSession:
            lease, rounds = await self._acquire(tenant, record, take_over=True)
            owned = OwnedRecord(record.head, lease.owner, lease, rounds)
            return StoredSession(self._store, owned, self.background)

        log = ClaimedLog(claim)
        return replace(resume_point, claim=log.claim), log

    async def follow_up(
        self,
        request: GenerationRequest,
        asked: FollowUp,
        deployment: Deployment,
        texts: TextQueue,
    ) -> tuple[ResumePoint, SessionLog]:
        """The next turn of a session, whose last one is finished.

        Args:
            request: with the parameters of the turn.
            asked: which session, and what is said next.
            deployment: that it was begun with.
            texts: where the work on its texts waits.

        Raises:
            SessionNotFoundError: there is none for this tenant.
            ModelMismatchError: it was begun with another model.
            SessionCancelledError: its last turn was cancelled.
            SessionUnfinishedError: its last turn was broken off.
            InvalidArgumentError: names every field that is wrong.
            StoreUnavailableError: the store is away.
        """
        record = await self._load(request.tenant, asked.session_id, deployment)
        _refuse_cancelled(record)
        if record.summary.status is not records.SessionStatus.FINISHED:
            raise SessionUnfinishedError("the session's last turn is not finished: resume it first")
        num_bytes = 4 * record.summary.num_tokens
        num_bytes += len(request.params.prediction)
        num_bytes += sum(MESSAGE_BYTES + len(each.content) for each in asked.messages)
        plan = await texts.run(
            num_bytes, lambda: _plan_next_turn(request, asked, record, deployment)
        )
        if asked.branches:
            return self.begin(plan, deployment)
        head = head_of(plan, asked.session_id, deployment.target.model_fingerprint)

        async def claim() -> StoredSession:
            lease, _ = await self._acquire(request.tenant, record, take_over=False)
            await self._patient_store.begin_turn(lease, head)
            return StoredSession(
                self._store, OwnedRecord(head, lease.owner, lease), self.background
            )

        log = ClaimedLog(claim)
        return ResumePoint(asked.session_id, plan, is_logged=True, claim=log.claim), log

    async def _acquire(
        self, tenant: str, known: SessionRecord, *, take_over: bool
    ) -> tuple[Lease, tuple[CommittedRound, ...]]:
        """Takes the lease of a session that is what it was, but for rounds that came since.

        Raises:
            SessionInUseError: someone generates it, or another turn of it has begun.
        """
        owner = new_owner(self._address)
        lease, current = await self._patient_store.acquire(
            tenant, known.summary.session_id, owner, take_over=take_over
        )
        old, new = known.rounds, current.rounds
        is_same = current.head == known.head and new[: len(old)] == old
        expected = {known.summary.status}
        if take_over:  # its owner may have gone on until the turn's end
            expected.add(records.SessionStatus.FINISHED)
        is_same = is_same and current.summary.status in expected
        if is_same and (take_over or new == old):
            return lease, new
        with suppress(ForethoughtError):
            await self._patient_store.finish(lease, current.summary.status)
        _refuse_cancelled(current)
        raise SessionInUseError("another turn of the session began just now")

    async def get(self, tenant: str, session_id: str) -> SessionContent:
        """A session with its tokens. Raises SessionNotFoundError and StoreUnavailableError."""
        record = await self._patient_store.load(tenant, session_id)
        return SessionContent(
            _info(record.summary),
            record.head.prompt_token_ids,
            record.output_token_ids,
            plan_of(record.head).note,
        )

    async def list_page(
        self, tenant: str, page_size: int, page_token: str
    ) -> tuple[list[SessionInfo], str]:
        """Sessions of a tenant, newest first, and where the next page begins; empty at the end."""
        page = await self._patient_store.list_page(
            tenant, page_size=page_size, page_token=page_token or None
        )
        return [_info(summary) for summary in page.sessions], page.next_page_token or ""

    async def cancel(self, tenant: str, session_id: str) -> SessionInfo:
        """Ends the turn where it is, whoever generates it; one that has ended is left as it is.

        Raises:
            SessionNotFoundError: there is none for this tenant.
            StoreUnavailableError: the store is away.
        """
        owner = new_owner(self._address)
        lease, record = await self._patient_store.acquire(tenant, session_id, owner, take_over=True)
        status = record.summary.status
        if status is records.SessionStatus.ACTIVE:
            status = records.SessionStatus.CANCELLED
        await self._patient_store.finish(lease, status)
        return _info(replace(record.summary, status=status))

    async def delete(self, tenant: str, session_id: str) -> None:
        """Forgets a session. Raises SessionNotFoundError and StoreUnavailableError."""
        await self._patient_store.delete(tenant, session_id)

    async def _load(self, tenant: str, session_id: str, deployment: Deployment) -> SessionRecord:
        record = await self._patient_store.load(tenant, session_id)
        if record.head.model != deployment.target.model_fingerprint:
            raise ModelMismatchError("the session was begun with another model")
        check_record(record, deployment)
        return record


def _refuse_cancelled(record: SessionRecord) -> None:
    if record.summary.status is records.SessionStatus.CANCELLED:
        raise SessionCancelledError("the session was cancelled: nothing follows")


def _check_next_index(next_index: int, plan: GenerationPlan, record: SessionRecord) -> None:
    num_stored = len(record.output_token_ids)
    if next_index > plan.max_tokens:
        raise InvalidArgumentError(
            {"prompt.resume.next_index": f"the session has {plan.max_tokens} tokens at most"}
        )
    if next_index > num_stored and not is_reproducible(plan):
        raise SessionIncompleteError(
            f"the store has {num_stored} tokens of the session, and the client {next_index}"
        )


def _plan_next_turn(
    request: GenerationRequest, asked: FollowUp, record: SessionRecord, deployment: Deployment
) -> GenerationPlan:
    said = record.head.prompt_token_ids + _output_of(record, deployment)
    prompt = next_turn(deployment.tokenizer, said, asked.messages)
    return plan_generation(replace(request, prompt=prompt), deployment)


def _output_of(record: SessionRecord, deployment: Deployment) -> tuple[int, ...]:
    """The tokens of a finished turn, without those that its last round put behind its end."""
    output = new_output(plan_of(record.head), deployment)
    for each in record.rounds:
        output.push(unpack_told(each.payload, each.token_ids).tokens)
    return record.output_token_ids[: output.num_tokens]


def new_output(plan: GenerationPlan, deployment: Deployment) -> Output:
    """The output of a plan, which has nothing yet."""
    return Output(
        deployment.tokenizer,
        plan.prompt_token_ids,
        max_tokens=plan.max_tokens,
        stops=plan.stops,
        stop_token_ids=plan.stop_token_ids,
    )


def _info(summary: SessionSummary) -> SessionInfo:
    return SessionInfo(
        session_id=summary.session_id,
        status=SessionStatus(summary.status.value),
        num_rounds=summary.num_rounds,
        num_prompt_tokens=summary.num_prompt_tokens,
        num_tokens=summary.num_tokens,
        created_ms=summary.created_ms,
        updated_ms=summary.updated_ms,
    )
