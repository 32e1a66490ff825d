"""What a refusal looks like on the wire, read without our own error mapping."""

from collections.abc import Awaitable, Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class Refusal:
    """A failed call, with the `google.rpc` details that it came with."""

    code: str
    message: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """Reads the details that every client gets, whatever its language."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    status = status_pb2.Status.FromString(details or b"")
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after_s = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad_request)
        if detail.Unpack(retry):
            retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
    if details:
        assert status.code == error.code().value[0]
        assert status.message == error.details()
        assert info.domain == "forethought"
    return Refusal(
        error.code().name,
        error.details() or "",
        info.reason,
        dict(info.metadata),
        {violation.field: violation.description for violation in bad_request.field_violations},
        retry_after_s,
    )


async def refusal_of(call: Awaitable[Any]) -> Refusal:
    """The refusal that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return read_refusal(caught.value)


async def read_to_end(call: Any) -> list[Any]:
    """All messages of an answer that is a stream."""
    return [message async for message in call]


async def converse(method: Any, messages: Iterable[Any]) -> list[Any]:
    """Sends messages on a stream, each after the answer to the one before, and reads to the end.

    A write that finds its stream refused would replace the refusal by an INTERNAL of grpc.aio's
    own (grpc/grpc#36066).
    """
    call = method(timeout=20)
    answers = []
    for message in messages:
        await call.write(message)
        answers.append(await call.read())
    await call.done_writing()
    while (answer := await call.read()) is not grpc.aio.EOF:
        answers.append(answer)
    return answers
