"""Who is let in: limits, vocabularies, models, and servers that are not ready."""

from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest

from forethought.errors import OverloadedError, VocabularyMismatchError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.v1 import draft_pb2, generation_pb2, target_pb2
from forethought.v1.generation_pb2_grpc import GenerationServiceStub
from tests.errors.refusals import converse, read_to_end, refusal_of
from tests.errors.test_tier_requests import DraftTier, TargetTier, opening
from tests.stack import LIMITS, generate, running_stack
from tests.waiting import draft_load, target_load, until

SHORT = GenerationRequest("abc", GenerationParams(max_tokens=8, temperature=0, ignore_eos=True))
ALONE = GenerationRequest(
    "abc",
    GenerationParams(max_tokens=8, temperature=0, ignore_eos=True, num_speculative_tokens=0),
)


@asynccontextmanager
async def an_open_session(method, message):
    call = method(timeout=20)
    await call.write(message)
    await call.read()
    try:
        yield
    finally:
        call.cancel()


def full_after_one(model):
    """A stack whose tiers take one session each."""
    one = replace(LIMITS, max_sessions=1)
    return running_stack(model, model.proposer(limits=one), limits=one)


class TestFull:
    @pytest.mark.parametrize("kind", [DraftTier, TargetTier])
    async def test_a_tier_says_when_to_try_again(self, tiny_target, kind):
        async with full_after_one(tiny_target) as stack:
            tier = kind(stack)
            async with an_open_session(tier.method, tier.open()):
                refusal = await refusal_of(converse(tier.method, [tier.open()]))
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after_s == pytest.approx(1)

    async def test_the_orchestrator_says_when_to_try_again(self, tiny_target):
        async with running_stack(tiny_target, max_requests=1) as stack:
            running = stack.client.generate(SHORT, timeout_s=20)
            await anext(running)
            message = generation_pb2.GenerateRequest(text="abc")
            call = stack.client._stubs[0].Generate(message, timeout=20)
            refusal = await refusal_of(read_to_end(call))
            await running.aclose()
            answer = await until(lambda: generate_or_none(stack.client))
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert refusal.retry_after_s == pytest.approx(1)
        assert len(answer.tokens) == 8

    async def test_a_full_target_refuses_the_request_and_says_when_to_try_again(self, tiny_target):
        async with full_after_one(tiny_target) as stack:
            tier = TargetTier(stack)
            async with an_open_session(tier.method, tier.open()):
                with pytest.raises(OverloadedError) as caught:
                    await generate(stack.client, SHORT)
        assert caught.value.retry_after_s == pytest.approx(1)

    async def test_a_full_draft_tier_is_done_without(self, tiny_target):
        async with full_after_one(tiny_target) as stack:
            tier = DraftTier(stack)
            async with an_open_session(tier.method, tier.open()):
                answer = await generate(stack.client, SHORT)
        assert answer.finished.speculation.num_draft_tokens == 0
        assert len(answer.tokens) == 8


async def generate_or_none(client):
    try:
        return await generate(client, SHORT)
    except OverloadedError:
        return None


class TestVocabulary:
    async def test_a_foreign_draft_is_refused_by_an_error_that_names_both(
        self, tiny_target, foreign_draft
    ):
        async with running_stack(tiny_target, foreign_draft.proposer()) as stack:
            call = stack.client._stubs[0].Generate(
                generation_pb2.GenerateRequest(text="abc"), timeout=20
            )
            refusal = await refusal_of(read_to_end(call))
            with pytest.raises(VocabularyMismatchError):
                await generate(stack.client, SHORT)
        names = {"draft": foreign_draft.info.name, "target": tiny_target.info.name}
        assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", "VOCABULARY_MISMATCH")
        assert all(name in refusal.message for name in names.values())
        assert refusal.metadata == names

    async def test_without_speculation_a_foreign_draft_does_not_matter(
        self, tiny_target, foreign_draft
    ):
        async with running_stack(tiny_target, foreign_draft.proposer()) as stack:
            answer = await generate(stack.client, ALONE)
        assert len(answer.tokens) == 8

    async def test_a_refused_request_is_forgotten_by_the_target_too(
        self, tiny_target, foreign_draft
    ):
        async with running_stack(tiny_target, foreign_draft.proposer()) as stack:
            with pytest.raises(VocabularyMismatchError):
                await generate(stack.client, SHORT)

            async def is_free():
                held = await draft_load(stack.draft_stub), await target_load(stack.target_stub)
                return not any(load.num_sessions for load in held)

            await until(is_free)

    @pytest.mark.parametrize("field", ["vocabulary_fingerprint", "model_fingerprint"])
    @pytest.mark.parametrize("kind", [DraftTier, TargetTier])
    async def test_a_tier_refuses_a_session_that_means_another_model(self, stack, kind, field):
        tier = kind(stack)
        refusal = await refusal_of(converse(tier.method, [tier.open(**{field: "other"})]))
        reason = {
            "vocabulary_fingerprint": "VOCABULARY_MISMATCH",
            "model_fingerprint": "MODEL_MISMATCH",
        }[field]
        assert (refusal.code, refusal.reason) == ("FAILED_PRECONDITION", reason)

    async def test_a_tier_takes_a_session_that_means_its_model(self, stack, tiny_target):
        info = tiny_target.info
        message = opening(
            vocabulary_fingerprint=info.vocabulary_fingerprint,
            model_fingerprint=info.model_fingerprint,
        )
        requests = [target_pb2.VerifyRequest(open=message)]
        answers = await converse(stack.target_stub.Verify, requests)
        assert answers[0].opened.model.model_fingerprint == info.model_fingerprint

    async def test_a_fingerprint_of_any_length_is_refused_in_few_words(self, stack):
        message = opening(vocabulary_fingerprint="é" * 100_000)
        requests = [draft_pb2.SpeculateRequest(open=message)]
        refusal = await refusal_of(converse(stack.draft_stub.Speculate, requests))
        assert refusal.reason == "VOCABULARY_MISMATCH"
        assert refusal.message.endswith("…")


class TestNotReady:
    @pytest.mark.parametrize("is_streaming", [False, True])
    async def test_a_server_that_loads_says_so(self, is_streaming):
        server = Server(ServerOptions("127.0.0.1:0", (), 1.0))
        await server.start()
        try:
            refusal = await self.refusal_by(f"127.0.0.1:{server.port}", is_streaming)
        finally:
            await server.drain()
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "LOADING")

    @pytest.mark.parametrize("is_streaming", [False, True])
    async def test_a_server_that_drains_says_so(self, stack, monkeypatch, is_streaming):
        # The listener closes at once, so only a call that is on its way then gets to hear it.
        async def stop(grace):
            return None

        with monkeypatch.context() as patch:
            patch.setattr(stack.target_server._server, "stop", stop)
            await stack.target_server.drain()
        refusal = await self.refusal_by(stack.target_address, is_streaming)
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")

    async def refusal_by(self, address, is_streaming):
        async with grpc.aio.insecure_channel(address) as channel:
            stub = GenerationServiceStub(channel)
            if is_streaming:
                call = read_to_end(stub.Generate(generation_pb2.GenerateRequest(), timeout=20))
            else:
                call = stub.Tokenize(generation_pb2.TokenizeRequest(), timeout=20)
            return await refusal_of(call)
