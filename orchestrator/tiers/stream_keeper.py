"""The one stream of a session to a tier: on which replica it is, and what becomes of failures.

    NONE, LOST --connect--> OPENING --opened--> OPEN
    OPENING, OPEN --leave--> NONE
    any state     --fail---> LOST

Each arrow is a method, and nothing else changes the state. Between a failure and the next answer
the keeper remembers which replicas have failed the session, so that it goes to another one; what it
learns of a replica it tells the `ReplicaSet`, for all sessions.
"""

import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any, Generic

from forethought.deployment import Standing
from forethought.errors import ForethoughtError, TierUnavailableError
from orchestrator.loop.session import Session
from orchestrator.replicas.placement import placement_key
from orchestrator.replicas.replica import Replica, StubT
from orchestrator.replicas.replica_set import ReplicaSet
from orchestrator.tiers.faults import Fault, fault_of
from orchestrator.tiers.tier_stream import TierStream


class NobodyThereError(TierUnavailableError):
    """No replica takes sessions at this moment."""


class StreamState(Enum):
    """Where a session is with its tier."""

    NONE = auto()  # there is no stream: none was wanted yet, or it was left in order
    OPENING = auto()  # a replica has it, and has not answered yet
    OPEN = auto()
    LOST = auto()  # the last one failed


class StreamKeeper(Generic[StubT]):
    """Keeps one stream at most.

    Args:
        replicas: of the tier.
        start_call: begins a call of a replica, with a time limit in seconds.
        deadline_s: of all that the session does, from now on.
    """

    def __init__(
        self,
        replicas: ReplicaSet[StubT],
        start_call: Callable[[StubT, float | None], Any],
        deadline_s: float | None,
    ) -> None:
        self.replicas = replicas
        self.state = StreamState.NONE
        self.stream: TierStream | None = None
        self.replica: Replica[StubT] | None = None
        """Of the stream."""
        self.home: Replica[StubT] | None = None
        """That took the session last."""
        self._start_call = start_call
        self._deadline = None if deadline_s is None else time.monotonic() + deadline_s
        self._key: bytes | None = None  # of the beginning that places the session
        self._num_told = 0  # tokens of the session that the replica knows
        self._away: set[Replica[StubT]] = set()  # failed it, and may be back after a while
        self._broken: set[Replica[StubT]] = set()  # failed it by their fault
        self._suspects: set[Replica[StubT]] = set()  # of them, those not blamed yet

    def place_with(self, session: Session) -> None:
        """From now on the stream goes where this session goes."""
        self._key = placement_key(session.token_ids, session.tenant)

    # Transitions.

    def connect(self, session: Session) -> TierStream:
        """Begins a stream to the replica that is best for the session; its opening tells all tokens
        that are committed.

        Raises:
            NobodyThereError: no replica takes sessions at this moment.
        """
        # Once: a session that grows stays where it is at home.
        self._key = self._key or placement_key(session.token_ids, session.tenant)
        replica = self.replicas.choose(self._key, self._avoided)
        if replica is None:
            raise NobodyThereError("no replica is there")
        left_s = None if self._deadline is None else max(self._deadline - time.monotonic(), 0)
        self.stream = TierStream(self._start_call(replica.stub, left_s))
        self.replica, self.state = replica, StreamState.OPENING
        self._num_told = session.position
        return self.stream

    def opened(self) -> None:
        """The opening was answered: the replica has the session."""
        self.replicas.took(self.replica, self.home)
        self.home, self.state = self.replica, StreamState.OPEN

    def leave(self) -> None:
        """Ends the stream, if there is one, and with it the session there."""
        if self.replica is not None:
            self.replicas.leave(self.replica)
            self.replica = None
        if self.stream is not None:
            self.stream.close()
            self.stream = None
        self.state = StreamState.NONE

    def fail(self, error: ForethoughtError) -> Fault:
        """The stream failed, or none could be begun. Notes what that says of the replica."""
        replica, fault = self.replica, fault_of(error)
        self.leave()
        self.state = StreamState.LOST
        if replica is None or fault is Fault.FORGOTTEN:
            return fault
        self._away.add(replica)
        if fault.is_replicas:
            self._broken.add(replica)
        match fault:
            case Fault.MISMATCH:
                self.replicas.stands(replica, Standing.REFUSED, error.message)
            case Fault.OWN:
                self.replicas.misserved(replica, error.message)
            case Fault.SUSPECTED:
                self._suspects.add(replica)
            case Fault.LOST:
                self.replicas.lost(replica, error.message)
        return fault

    # What the session has told the replica.

    def untold(self, session: Session) -> Sequence[int]:
        """The committed tokens that the replica does not know."""
        return session.token_ids[self._num_told :]

    def told(self, session: Session) -> None:
        """It knows all that is committed."""
        self._num_told = session.position

    # Where the session may go.

    @property
    def address(self) -> str:
        """Of the replica; empty without one."""
        return "" if self.replica is None else self.replica.address

    @property
    def should_leave(self) -> bool:
        """Whether the session should go to another replica between two rounds: this one drains, or
        fails its sessions."""
        return self.replica is not None and self.replicas.should_leave(self.replica)

    @property
    def has_other(self) -> bool:
        """Whether a healthy replica is there that has not failed the session and does not have
        it."""
        return self.replicas.has_other({*self._avoided, self.replica})

    @property
    def may_have_unbroken(self) -> bool:
        """Whether there is a replica that has not failed the session by its own fault, though it
        may be away just now."""
        return self.replicas.may_have_other(self._broken)

    def goes_on_at_once(self) -> bool:
        """Whether to go to another replica without a pause. The first time costs nothing: it is the
        same load in another place. Each further one takes from the tier's budget of retries."""
        is_first = len(self._avoided) == 1
        return self.has_other and (is_first or self.replicas.budget.take())

    # What is remembered of failures.

    def served(self) -> None:
        """The replica has answered a round."""
        if self.replica is not None:
            self.replicas.served(self.replica)

    def succeeded(self) -> None:
        """What others failed was answered: those that were suspected are to blame for it."""
        for suspect in self._suspects - {self.replica}:
            self.replicas.misserved(suspect, "another replica answers what it failed")
        self.forget_failures()

    def forget_failures(self) -> None:
        """What comes is another search: any replica may be asked."""
        for failed in (self._away, self._broken, self._suspects):
            failed.clear()

    def forget_absences(self) -> None:
        """Time has passed: replicas that failed by no fault of theirs may be asked again."""
        self._away.clear()

    def forgive(self) -> None:
        """All have failed: any may be asked again, and suspects stay suspected."""
        self._away.clear()
        self._broken.clear()

    @property
    def _avoided(self) -> set[Replica[StubT]]:
        """Replicas that are not worth the next attempt."""
        return self._away | self._broken
