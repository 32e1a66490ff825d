"""Exceptions to status and back."""

import grpc
import pytest
import structlog
from grpc.aio import AioRpcError, Metadata

from forethought import errors
from forethought.errors import ForethoughtError, InvalidArgumentError, OverloadedError, RemoteError
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.status import code_of, error_from_rpc, status_from_error
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from tests.errors.refusals import read_to_end, refusal_of
from tests.stack import running_server

PLAIN_LEAVES = [
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
]
STAY_AT_HOME = {
    errors.CertificateError,  # ends a process at its start
    errors.ClientClosedError,  # of a client, that asks nobody
    errors.ClusterError,  # ends a process at its start
    errors.HandshakeError,  # of a connection that did not come about
    errors.HiddenStatesMismatchError,  # the orchestrator does without that draft
    errors.KeyFileError,  # ends a process at its start
    errors.ListenError,  # ends a process at its start
    errors.ModelReferenceError,  # ends a process at its start
    errors.StoreRefusedError,  # likewise
    errors.NotEnoughMemoryError,  # ends a process at its start
    errors.TierProtocolError,  # INTERNAL to clients, by an id
}


def as_rpc_error(error: ForethoughtError) -> AioRpcError:
    details = status_from_error(error).SerializeToString()
    metadata = Metadata(("grpc-status-details-bin", details))
    return AioRpcError(code_of(error), Metadata(), metadata, error.message)


def test_no_leaf_is_forgotten_here():
    values = vars(errors).values()
    leaves = {leaf for leaf in values if isinstance(leaf, type) and issubclass(leaf, Exception)}
    special = {ForethoughtError, InvalidArgumentError, OverloadedError, RemoteError}
    assert leaves == {*PLAIN_LEAVES, *special, *STAY_AT_HOME}


@pytest.mark.parametrize("leaf", PLAIN_LEAVES, ids=lambda leaf: leaf.__name__)
def test_a_leaf_comes_back_as_itself(leaf):
    error = error_from_rpc(as_rpc_error(leaf("why", metadata={"model": "m"})))
    assert type(error) is leaf
    assert (error.message, error.metadata) == ("why", {"model": "m"})


def test_violations_come_back():
    violations = {"params.top_p": "too high", "prompt": "missing"}
    error = error_from_rpc(as_rpc_error(InvalidArgumentError(violations)))
    assert isinstance(error, InvalidArgumentError)
    assert error.violations == violations


def test_the_time_to_wait_comes_back():
    error = error_from_rpc(as_rpc_error(OverloadedError("full", retry_after_s=1.25)))
    assert isinstance(error, OverloadedError)
    assert (error.message, error.retry_after_s) == ("full", 1.25)


@pytest.mark.parametrize(
    "error", [RemoteError("why", code="DEADLINE_EXCEEDED"), errors.ModelReferenceError("why")]
)
def test_an_error_without_a_leaf_keeps_code_and_message(error):
    returned = error_from_rpc(as_rpc_error(error))
    assert isinstance(returned, RemoteError)
    assert (returned.code, returned.message) == (error.code, "why")


@pytest.mark.parametrize("details", [b"", b"\xff\xff", b"\x0a\x03abc"])
def test_details_that_cannot_be_read_are_no_second_error(details):
    metadata = Metadata(("grpc-status-details-bin", details))
    rpc_error = AioRpcError(grpc.StatusCode.ABORTED, Metadata(), metadata, "why")
    error = error_from_rpc(rpc_error)
    assert isinstance(error, RemoteError)
    assert (error.code, error.message) == ("ABORTED", "why")


def test_the_details_of_another_domain_are_not_ours():
    rpc_error = as_rpc_error(errors.LoadingError("why"))
    (key, details), *_ = rpc_error.trailing_metadata()
    foreign = details.replace(b"forethought", b"forethinker")
    metadata = Metadata((key, foreign))
    error = error_from_rpc(AioRpcError(rpc_error.code(), Metadata(), metadata, "why"))
    assert isinstance(error, RemoteError)


class Panic(BaseException):
    """What a library in Rust ends with: no Exception."""


class Failing(GenerationServiceServicer):
    """Fails in every method, one message into a stream."""

    def __init__(self, error):
        self.error = error

    async def Generate(self, request, context):  # noqa: N802
        yield pb.GenerateResponse()
        raise self.error

    async def Tokenize(self, request, context):  # noqa: N802
        raise self.error


UNKNOWN = [
    KeyError("the secret"),
    ExceptionGroup("the secret", [ValueError("the secret")]),
    errors.TierProtocolError("the secret"),
    ForethoughtError("the secret"),
    Panic("the secret"),
]


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("method", ["Generate", "Tokenize"])
async def test_an_unknown_exception_is_internal_with_an_id_that_is_in_the_log(error, method):
    with structlog.testing.capture_logs() as logs:
        refusal = await self_inflicted(error, method)
    failed = next(entry for entry in logs if entry["event"] == "call_failed")
    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert refusal.message == f"internal error {failed['error_id']}"
    assert failed["exc_info"] is error
    assert failed["method"] == f"/forethought.v1.GenerationService/{method}"


@pytest.mark.parametrize("method", ["Generate", "Tokenize"])
async def test_a_known_exception_keeps_its_code_reason_and_message(method):
    refusal = await self_inflicted(errors.TierUnavailableError("target tier: gone"), method)
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "TIER_UNAVAILABLE")
    assert refusal.message == "target tier: gone"


async def test_a_method_that_does_not_exist_is_unimplemented(stack):
    async with open_channel(stack.address) as channel:
        refusal = await refusal_of(channel.unary_unary("/forethought.v1.Nothing/AtAll")(b""))
    assert refusal.code == "UNIMPLEMENTED"


async def self_inflicted(error, method):
    servicer = Failing(error)
    async with (
        running_server(lambda s: add_GenerationServiceServicer_to_server(servicer, s)) as server,
        open_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        stub = GenerationServiceStub(channel)
        if method == "Tokenize":
            return await refusal_of(stub.Tokenize(pb.TokenizeRequest(), timeout=20))
        return await refusal_of(read_to_end(stub.Generate(pb.GenerateRequest(), timeout=20)))
