"""What a failed stream or round says of the replica that failed it: one classification.

Only what is surely a replica's fault counts against it at once. Of other faults the request may be
the cause, and it takes a second replica that answers the same to tell: whoever makes requests must
not be able to have all replicas ejected.
"""

from enum import Enum, auto

from forethought.errors import (
    CachePositionMismatchError,
    DrainingError,
    ForethoughtError,
    HiddenStatesMismatchError,
    LoadingError,
    ModelMismatchError,
    OpeningTimeoutError,
    OverloadedError,
    ReplicaFailedError,
    SessionIdleError,
    TierProtocolError,
    VocabularyMismatchError,
)
from orchestrator.tiers.tier_stream import StreamEndedError


class Fault(Enum):
    """Whose fault a failure is, and what may mend it."""

    FORGOTTEN = auto()
    """The replica is well, and does not know the session any more: it opens again, there too."""
    MISMATCH = auto()
    """It serves something else than the session needs: another replica may not."""
    FULL = auto()
    """It has no room: another one may, and this one later."""
    LEFT = auto()
    """It ended the stream in order, or may have, where nobody knows why: it drains, or loads."""
    LOST = auto()
    """The stream broke without a word, or goes unanswered."""
    OWN = auto()
    """It is at fault, whatever was asked."""
    SUSPECTED = auto()
    """It is at fault, unless the request is: a second replica tells."""
    REQUEST = auto()
    """What was asked is to blame, or its time is over: nothing mends it."""

    @property
    def is_replicas(self) -> bool:
        """Whether the replica failed a request that may succeed at another one."""
        return self in {Fault.OWN, Fault.SUSPECTED}


def fault_of(error: ForethoughtError) -> Fault:
    """What an error of a stream is a sign of."""
    of_type = (fault for kinds, fault in _BY_TYPE if isinstance(error, kinds))
    return next(of_type, None) or _BY_CODE.get(error.code, Fault.REQUEST)


_BY_TYPE = (
    ((CachePositionMismatchError, OpeningTimeoutError, SessionIdleError), Fault.FORGOTTEN),
    ((ModelMismatchError, VocabularyMismatchError, HiddenStatesMismatchError), Fault.MISMATCH),
    ((OverloadedError,), Fault.FULL),
    ((DrainingError, LoadingError, StreamEndedError), Fault.LEFT),
    ((ReplicaFailedError, TierProtocolError), Fault.OWN),
)
_BY_CODE = {
    "INTERNAL": Fault.SUSPECTED,
    "UNKNOWN": Fault.SUSPECTED,
    "DATA_LOSS": Fault.SUSPECTED,
    "UNIMPLEMENTED": Fault.SUSPECTED,
    "UNAVAILABLE": Fault.LOST,
    "CANCELLED": Fault.LOST,
}
