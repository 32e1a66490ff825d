"""The search for a target that answers: what is asked is asked again for as long as that can help.

A stream that is lost is opened on another replica at once. Where there is no other, patience
begins, and ends in an error.

A replica may also fail a round by a fault of its own: its pass fails, or its answer is nonsense.
Then every other replica is asked the round, with the same draws, before the client is told.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

import structlog

from forethought.errors import (
    ForethoughtError,
    ModelMismatchError,
    OverloadedError,
    ReplicaFailedError,
    TierProtocolError,
    TierUnavailableError,
    VocabularyMismatchError,
)
from forethought.v1.target_pb2_grpc import TargetServiceStub
from orchestrator.tiers.faults import Fault, fault_of
from orchestrator.tiers.patience import ReopenOptions
from orchestrator.tiers.stream_keeper import NobodyThereError, StreamKeeper

Result = TypeVar("Result")

_log = structlog.get_logger(__name__)


class TargetSearch:
    """Asks one replica after another.

    Args:
        keeper: of the session's stream.
        options: how long to search.
    """

    def __init__(self, keeper: StreamKeeper[TargetServiceStub], options: ReopenOptions) -> None:
        self._keeper = keeper
        self._options = options
        self._give_up: float | None = None  # patience begins with the first failure
        self.num_moves = 0
        """Rounds that were given up on for being slow, in this search."""

    @property
    def patience_left_s(self) -> float:
        """Seconds until a lost target counts as gone."""
        if self._give_up is None:
            return self._options.patience_s
        return self._give_up - time.monotonic()

    async def run(self, session_id: str, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """The result of the first attempt that succeeds.

        Raises:
            ForethoughtError: as `RemoteVerifier.verify`.
        """
        keeper = self._keeper
        keeper.forget_failures()
        self._give_up, self.num_moves = None, 0
        while True:
            try:
                result = await attempt()
            except TimeoutError as error:
                keeper.leave()
                raise TierUnavailableError("target tier: an opening goes unanswered") from error
            except ForethoughtError as error:
                address = keeper.address
                if not self._can_mend(keeper.fail(error)):
                    _refuse(error)
                self._give_up = self._give_up or time.monotonic() + self._options.patience_s
                if self.patience_left_s <= 0:
                    raise TierUnavailableError(f"target tier: {error.message}") from error
                _log.warning(
                    "target_lost",
                    session_id=session_id,
                    address=address,
                    reason=error.reason,
                    why=error.message,
                )
                await self._pause(error)
            else:
                keeper.succeeded()
                return result

    def _can_mend(self, fault: Fault) -> bool:
        """Whether opening the stream again, now or a little later, can help."""
        match fault:
            case Fault.FORGOTTEN | Fault.LEFT | Fault.LOST:
                return True
            case Fault.OWN | Fault.SUSPECTED:
                # One that is not there now may come back within patience.
                return self._keeper.may_have_unbroken
            case Fault.FULL:
                # A new request is the caller's to repeat. One that has begun would be lost.
                return self._keeper.home is not None or self._keeper.has_other
            case Fault.MISMATCH:
                return self._keeper.has_other
            case Fault.REQUEST:
                return False

    async def _pause(self, error: ForethoughtError) -> None:
        """Returns at once where another replica is worth an attempt, else a little later."""
        if self._keeper.goes_on_at_once():
            return
        left_s = max(self.patience_left_s, 0)
        if isinstance(error, NobodyThereError):
            await self._keeper.replicas.change(left_s)
        elif isinstance(error, OverloadedError):
            await asyncio.sleep(min(max(self._options.interval_s, error.retry_after_s), left_s))
        else:
            await asyncio.sleep(min(self._options.interval_s, left_s))
        self._keeper.forget_absences()


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
    if fault_of(error).is_replicas and not isinstance(error, TierProtocolError):
        raise ReplicaFailedError(f"every target replica failed: {error.message}") from error
    raise error
