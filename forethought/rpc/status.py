"""Errors as gRPC status with `google.rpc` details, and back.

Servers send `ErrorInfo` (reason, domain, metadata) always, `BadRequest` for field violations and
`RetryInfo` where waiting helps. Clients get the same leaf of the error tree back.
"""

import asyncio
import re
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from forethought import errors
from forethought.errors import (
    ForethoughtError,
    HandshakeError,
    InvalidArgumentError,
    OverloadedError,
    RemoteError,
)
from forethought.rpc.security.handshake import describe_handshake

DOMAIN = "forethought"
_DETAILS_KEY = "grpc-status-details-bin"

STATUS_TIMEOUT_S = 10.0
"""Time in which a client that does not read may begin to, and still be told why its call ended."""

# Status travels in HTTP/2 trailers, and gRPC drops a call whose trailers exceed 8 KiB. Messages may
# quote what a caller sent.
_MAX_MESSAGE_BYTES = 1024
_MAX_DESCRIPTION_BYTES = 256

_TOO_LARGE = re.compile(
    r"(?:SERVER: Received|CLIENT: Sent) message larger than max \((\d+) vs\. (\d+)\)"
)
"""What gRPC itself says of a request that is too large, with the code of a server that is busy."""

_LEAVES: dict[str, type[ForethoughtError]] = {
    leaf.reason: leaf
    for leaf in (
        errors.CachePositionMismatchError,
        errors.DrainingError,
        errors.DurationExceededError,
        errors.LeaseLostError,
        errors.LoadingError,
        errors.ModelMismatchError,
        errors.NoStoreError,
        errors.OpeningTimeoutError,
        errors.PermissionDeniedError,
        errors.ReplicaFailedError,
        errors.RoundMismatchError,
        errors.SessionCancelledError,
        errors.SessionCorruptError,
        errors.SessionIdleError,
        errors.SessionInUseError,
        errors.SessionIncompleteError,
        errors.SessionNotFoundError,
        errors.SessionUnfinishedError,
        errors.StoreUnavailableError,
        errors.TierUnavailableError,
        errors.UnauthenticatedError,
        errors.UnreadStreamError,
        errors.VocabularyMismatchError,
    )
}


def code_of(error: ForethoughtError) -> grpc.StatusCode:
    """The gRPC status code of an error."""
    return grpc.StatusCode[error.code]


async def send_headers(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    """Sends what goes before the first message, to its end even if the call is cancelled.

    The first write would do it, too. But of a write that is cancelled grpc.aio forgets that the
    headers went, sends them again with the status, and fails: the client would wait for ever.
    """
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.wait((sending,))
        raise


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: ForethoughtError) -> None:
    """Ends the call with the status of `error`. Never returns.

    The status comes after all that the client has not read yet. If it does not come to that for a
    while, or if it has left, the call is cancelled.
    """
    details = status_from_error(error).SerializeToString()
    message = _clipped(error.message, _MAX_MESSAGE_BYTES)
    try:
        async with asyncio.timeout(STATUS_TIMEOUT_S):
            await context.abort(code_of(error), message, ((_DETAILS_KEY, details),))
    except (TimeoutError, grpc.aio.InternalError):
        raise asyncio.CancelledError from None


def status_from_error(error: ForethoughtError) -> status_pb2.Status:
    """The rich status of an error."""
    message = _clipped(error.message, _MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=code_of(error).value[0], message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.add().Pack(info)
    if isinstance(error, InvalidArgumentError):
        status.details.add().Pack(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(
                        field=field, description=_clipped(text, _MAX_DESCRIPTION_BYTES)
                    )
                    for field, text in error.violations.items()
                ]
            )
        )
    if isinstance(error, OverloadedError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        status.details.add().Pack(retry)
    return status


def _clipped(text: str, max_bytes: int) -> str:
    """`text`, or the beginning of it and an ellipsis."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode(errors="ignore") + "…"


def error_from_rpc(rpc_error: grpc.aio.AioRpcError) -> ForethoughtError:
    """The leaf of the error tree that a failed call stands for; RemoteError if there is none.

    A connection that TLS stands in the way of is HandshakeError, a request that is larger than
    gRPC takes InvalidArgumentError.
    """
    message = rpc_error.details() or rpc_error.code().name
    for key, value in rpc_error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            error = _error_from_details(value, message)
            if error is not None:
                return error
    if why := describe_handshake(message):
        return HandshakeError(why)
    if sizes := _TOO_LARGE.search(message):
        num_bytes, most = sizes.groups()
        return InvalidArgumentError({"request": f"has {num_bytes} bytes, at most {most} are taken"})
    return RemoteError(message, code=rpc_error.code().name)


def _error_from_details(serialized: bytes, message: str) -> ForethoughtError | None:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    try:
        for detail in status_pb2.Status.FromString(serialized).details:
            for kind in (info, bad_request, retry):
                detail.Unpack(kind)
    except DecodeError:
        return None
    if info.domain != DOMAIN:
        return None
    if info.reason == InvalidArgumentError.reason:
        return InvalidArgumentError({v.field: v.description for v in bad_request.field_violations})
    if info.reason == OverloadedError.reason:
        return OverloadedError(message, retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9)
    leaf = _LEAVES.get(info.reason)
    return leaf(message, metadata=dict(info.metadata)) if leaf else None
