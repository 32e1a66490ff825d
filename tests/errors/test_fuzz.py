"""Whatever comes in, no servicer fails by accident, and nothing stays behind.

INTERNAL and UNKNOWN are accidents: an exception that nobody thought of. After each storm an
ordinary request must work, and neither tier may hold a session.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forethought.generation import GenerationParams, GenerationRequest
from forethought.rpc.connections.channels import open_channel
from forethought.v1 import common_pb2, draft_pb2, generation_pb2, target_pb2
from tests.errors import hostile
from tests.stack import LoadedModel, Stack, generate, running_stack
from tests.waiting import until_nothing_is_held

GENERATE = "/forethought.v1.GenerationService/Generate"
TOKENIZE = "/forethought.v1.GenerationService/Tokenize"
DETOKENIZE = "/forethought.v1.GenerationService/Detokenize"
SPECULATE = "/forethought.v1.DraftService/Speculate"
VERIFY = "/forethought.v1.TargetService/Verify"

ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.FAILED_PRECONDITION,
}
ENOUGH = 4
"""Messages of an answer that are read before the caller hangs up."""

storm = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class Victim:
    """A running deployment that takes bytes."""

    def __init__(self, runner: asyncio.Runner, target: LoadedModel) -> None:
        self._runner = runner
        self._cleanup = AsyncExitStack()
        self.stack: Stack = runner.run(
            self._cleanup.enter_async_context(running_stack(target, target.proposer()))
        )
        addresses = {
            "forethought.v1.DraftService": self.stack.draft_address,
            "forethought.v1.TargetService": self.stack.target_address,
            "forethought.v1.GenerationService": self.stack.address,
        }
        self._channels = {
            service: runner.run(self._cleanup.enter_async_context(open_channel(address)))
            for service, address in addresses.items()
        }

    def call(self, method: str, *messages: bytes) -> grpc.StatusCode:
        """Sends messages and says how the call ended; OK where the caller hung up."""
        return self._runner.run(self._call(method, messages))

    async def _call(self, method: str, messages: Sequence[bytes]) -> grpc.StatusCode:
        channel = self._channels[method.split("/")[1]]
        # On the wire every kind of call is a stream.
        call = channel.stream_stream(method)(timeout=60)
        try:
            for message in messages:
                await call.write(message)
                # An answer before the next message: a write that finds the stream ended would
                # replace what the server said by an INTERNAL of the client's own.
                if await call.read() is grpc.aio.EOF:
                    return await call.code()
            await call.done_writing()
            for _ in range(ENOUGH):
                if await call.read() is grpc.aio.EOF:
                    return await call.code()
        except grpc.aio.AioRpcError as error:
            return error.code()
        finally:
            call.cancel()
        return grpc.StatusCode.OK

    def check(self) -> None:
        """Works as ever, and holds nothing."""
        request = GenerationRequest("abc", GenerationParams(max_tokens=8, ignore_eos=True))
        answer = self._runner.run(generate(self.stack.client, request))
        assert len(answer.tokens) == 8
        self._runner.run(until_nothing_is_held(self.stack))

    def close(self) -> None:
        self._runner.run(self._cleanup.aclose())


@pytest.fixture(scope="module")
def deployment(tiny_target: LoadedModel) -> Iterator[Victim]:
    with asyncio.Runner() as runner:
        victim = Victim(runner, tiny_target)
        yield victim
        victim.close()


@pytest.fixture
def victim(deployment: Victim) -> Iterator[Victim]:
    """The deployment, checked after the storm."""
    yield deployment
    deployment.check()


def open_draft(**sampling):
    return draft_pb2.SpeculateRequest(open=_open(**sampling)).SerializeToString()


def open_target(**sampling):
    return target_pb2.VerifyRequest(open=_open(**sampling)).SerializeToString()


def _open(**sampling):
    fields = {"temperature": 1, "top_p": 1, "repetition_penalty": 1} | sampling
    return common_pb2.SessionOpen(
        session_id="s", token_ids=[3, 4, 5], sampling=common_pb2.SamplingParams(**fields)
    )


@storm
@given(st.lists(hostile.SPECULATE, max_size=5), st.booleans())
def test_no_messages_make_the_draft_tier_fail(victim, messages, is_open):
    first = [open_draft()] if is_open else []
    code = victim.call(SPECULATE, *first, *(each.SerializeToString() for each in messages))
    assert code in ALLOWED


@storm
@given(st.lists(hostile.VERIFY, max_size=5), st.booleans())
def test_no_messages_make_the_target_tier_fail(victim, messages, is_open):
    first = [open_target()] if is_open else []
    code = victim.call(VERIFY, *first, *(each.SerializeToString() for each in messages))
    assert code in ALLOWED


@storm
@given(hostile.OPEN)
def test_no_opening_makes_a_round_fail_later(victim, opening):
    """Sampling parameters in range stay harmless when they are used."""
    drafting = draft_pb2.SpeculateRound(
        round=2**64 - 1, position=len(opening.token_ids), num_speculative_tokens=3
    )
    guess = target_pb2.DraftToVerify(token_id=3, support_token_ids=[3, 4])
    verifying = target_pb2.VerifyRound(
        round=2**64 - 1, position=len(opening.token_ids), drafts=[guess], num_logprobs=3
    )
    for method, messages in (
        (
            SPECULATE,
            [draft_pb2.SpeculateRequest(open=opening), draft_pb2.SpeculateRequest(round=drafting)],
        ),
        (
            VERIFY,
            [target_pb2.VerifyRequest(open=opening), target_pb2.VerifyRequest(round=verifying)],
        ),
    ):
        assert victim.call(method, *(each.SerializeToString() for each in messages)) in ALLOWED


@storm
@given(hostile.GENERATE)
@example(generation_pb2.GenerateRequest(text="\x00\ufffd\U0010ffff"))
def test_no_request_makes_generation_fail(victim, request_message):
    assert victim.call(GENERATE, request_message.SerializeToString()) in ALLOWED


@storm
@given(hostile.TOKENIZE, hostile.DETOKENIZE)
def test_no_request_makes_tokenization_fail(victim, tokenize, detokenize):
    assert victim.call(TOKENIZE, tokenize.SerializeToString()) in ALLOWED
    assert victim.call(DETOKENIZE, detokenize.SerializeToString()) in ALLOWED


@pytest.mark.parametrize(
    ("method", "messages"),
    [
        (GENERATE, hostile.GENERATE),
        (TOKENIZE, hostile.TOKENIZE),
        (SPECULATE, hostile.SPECULATE),
        (VERIFY, hostile.VERIFY),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
@storm
@given(st.data())
def test_no_bytes_make_a_servicer_fail(victim, method, messages, data):
    first = {SPECULATE: [open_draft()], VERIFY: [open_target()]}.get(method, [])
    raw = data.draw(hostile.mangled(messages))
    assert victim.call(method, *first, raw) in ALLOWED


@pytest.mark.parametrize("method", [GENERATE, TOKENIZE, SPECULATE, VERIFY])
def test_bytes_that_are_no_message_are_an_invalid_argument(victim, method):
    assert victim.call(method, b"\xff\xff\xff") is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", [SPECULATE, VERIFY])
def test_a_stream_without_a_message_ends_in_order(victim, method):
    assert victim.call(method) is grpc.StatusCode.OK
