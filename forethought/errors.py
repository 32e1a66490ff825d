"""The one exception tree. Each leaf knows the gRPC code and the reason it maps to.

Codes are names, not `grpc.StatusCode` members, so that layers without gRPC can raise. The
interceptor in `forethought.rpc` turns them into a status with `google.rpc` details:
`ErrorInfo` carries the reason, `BadRequest` the field violations, `RetryInfo` the delay.
"""

from collections.abc import Mapping


class ForethoughtError(Exception):
    """Base of everything that this project raises on purpose.

    `metadata` travels in `ErrorInfo`; keep it free of prompts and tokens.
    """

    code: str = "INTERNAL"
    reason: str = "INTERNAL"

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})


class InvalidArgumentError(ForethoughtError):
    """A field of the request is malformed. `violations` maps field paths to descriptions."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_ARGUMENT"

    def __init__(self, violations: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{field}: {text}" for field, text in violations.items()))
        self.violations = dict(violations)


class VocabularyMismatchError(ForethoughtError):
    """Draft and target do not share a vocabulary, so that token ids mean different things."""

    code = "FAILED_PRECONDITION"
    reason = "VOCABULARY_MISMATCH"


class ModelMismatchError(ForethoughtError):
    """A tier serves another model than the caller expects."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_MISMATCH"


class HiddenStatesMismatchError(ForethoughtError):
    """A draft guesses from hidden states that the target cannot give: it is another target's."""

    code = "FAILED_PRECONDITION"
    reason = "HIDDEN_STATES_MISMATCH"


class CachePositionMismatchError(ForethoughtError):
    """A round starts beyond the tokens that the tier knows. Answer: open again."""

    code = "FAILED_PRECONDITION"
    reason = "CACHE_POSITION_MISMATCH"


class TierUnavailableError(ForethoughtError):
    """A tier that is needed cannot be reached, or was lost and did not come back in time."""

    code = "UNAVAILABLE"
    reason = "TIER_UNAVAILABLE"


class ReplicaFailedError(ForethoughtError):
    """A replica failed by a fault of its own: the same request may succeed at another one."""

    code = "UNAVAILABLE"
    reason = "REPLICA_FAILED"


class OpeningTimeoutError(ForethoughtError):
    """A stream was begun, and its session not opened in time."""

    code = "DEADLINE_EXCEEDED"
    reason = "OPENING_TIMEOUT"


class SessionIdleError(ForethoughtError):
    """A tier ended a session that asked for nothing for long. Answer: open again."""

    code = "FAILED_PRECONDITION"
    reason = "SESSION_IDLE"


class ListenError(ForethoughtError):
    """A server cannot listen at its address."""

    code = "UNAVAILABLE"
    reason = "LISTEN"


class CertificateError(ForethoughtError):
    """A certificate or key of this process cannot be used."""

    code = "FAILED_PRECONDITION"
    reason = "CERTIFICATE"


class KeyFileError(ForethoughtError):
    """The file of API keys cannot be used."""

    code = "FAILED_PRECONDITION"
    reason = "KEY_FILE"


class UnauthenticatedError(ForethoughtError):
    """The caller shows no API key, or one that is not known."""

    code = "UNAUTHENTICATED"
    reason = "UNAUTHENTICATED"


class HandshakeError(ForethoughtError):
    """No connection came about, since both ends do not agree on TLS."""

    code = "UNAVAILABLE"
    reason = "TLS_HANDSHAKE"


class PermissionDeniedError(ForethoughtError):
    """The caller is known, and may not do this."""

    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class DrainingError(ForethoughtError):
    """The process is shutting down and takes no new work."""

    code = "UNAVAILABLE"
    reason = "DRAINING"


class ClusterError(ForethoughtError):
    """A process is to change a Kubernetes cluster, and runs in none."""

    code = "FAILED_PRECONDITION"
    reason = "NO_CLUSTER"


class LoadingError(ForethoughtError):
    """The process has started, but its model is not warm yet."""

    code = "UNAVAILABLE"
    reason = "LOADING"


class OverloadedError(ForethoughtError):
    """No room for another session. Clients may try again after `retry_after_s` seconds."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DurationExceededError(ForethoughtError):
    """A request takes longer than its deployment allows. A stored session can be resumed."""

    code = "DEADLINE_EXCEEDED"
    reason = "DURATION_EXCEEDED"


class UnreadStreamError(ForethoughtError):
    """An answer is not read by its client, and was ended. A stored session can be resumed."""

    code = "DEADLINE_EXCEEDED"
    reason = "STREAM_UNREAD"


class ModelReferenceError(ForethoughtError):
    """A model reference cannot be resolved, or what it names cannot be loaded."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_REFERENCE"


class NotEnoughMemoryError(ForethoughtError):
    """There is too little memory for what a process is to hold."""

    code = "FAILED_PRECONDITION"
    reason = "NOT_ENOUGH_MEMORY"


class TierProtocolError(ForethoughtError):
    """A tier answered with something that its protocol does not allow."""

    code = "INTERNAL"
    reason = "TIER_PROTOCOL"


class StoreUnavailableError(ForethoughtError):
    """The store cannot be reached, does not answer in time, or cannot take what it is given."""

    code = "UNAVAILABLE"
    reason = "STORE_UNAVAILABLE"


class StoreRefusedError(ForethoughtError):
    """The store cannot be used as it is configured: a process that needs it does not start."""

    code = "FAILED_PRECONDITION"
    reason = "STORE_REFUSED"


class SessionNotFoundError(ForethoughtError):
    """There is no such session, or none of this tenant: who asks cannot tell which."""

    code = "NOT_FOUND"
    reason = "SESSION_NOT_FOUND"


class SessionCorruptError(ForethoughtError):
    """What is stored of a session is not what was written, or was written by another version."""

    code = "DATA_LOSS"
    reason = "SESSION_CORRUPT"


class SessionInUseError(ForethoughtError):
    """Another owner has the session, and is alive as far as the store knows."""

    code = "ABORTED"
    reason = "SESSION_IN_USE"


class SessionUnfinishedError(ForethoughtError):
    """The session's last turn is not finished: resume it before the next one."""

    code = "FAILED_PRECONDITION"
    reason = "SESSION_UNFINISHED"


class SessionCancelledError(ForethoughtError):
    """The session's turn was ended by a call to cancel it."""

    code = "FAILED_PRECONDITION"
    reason = "SESSION_CANCELLED"


class SessionIncompleteError(ForethoughtError):
    """Less of the session is stored than its client has, and the rest would come out otherwise."""

    code = "DATA_LOSS"
    reason = "SESSION_INCOMPLETE"


class NoStoreError(ForethoughtError):
    """Sessions are not kept here: there is no store."""

    code = "FAILED_PRECONDITION"
    reason = "NO_STORE"


class LeaseLostError(ForethoughtError):
    """Someone else has taken the session over, or deleted it: whoever had it must stop."""

    code = "ABORTED"
    reason = "LEASE_LOST"


class RoundMismatchError(ForethoughtError):
    """A round does not follow those that are stored. The metadata says where they end."""

    code = "FAILED_PRECONDITION"
    reason = "ROUND_MISMATCH"


class ClientClosedError(ForethoughtError):
    """A call on a client that was closed before."""

    code = "FAILED_PRECONDITION"
    reason = "CLIENT_CLOSED"


class RemoteError(ForethoughtError):
    """A call failed without saying why in our terms. `code` is the gRPC code's name."""

    reason = "REMOTE"

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
