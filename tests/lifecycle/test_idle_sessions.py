"""A session that asks for nothing gives its place back, and whoever has it opens it again."""

import asyncio
from functools import partial

import grpc
import pytest

from forethought.errors import SessionIdleError
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.serving.server import Server, ServerOptions
from forethought.rpc.session_stream import serve_session
from forethought.rpc.status import error_from_rpc
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import Draft
from forethought.tier import ModelInfo
from forethought.v1 import common_pb2, draft_pb2, target_pb2
from orchestrator.loop.round import Ask
from orchestrator.loop.session import Session
from orchestrator.replicas.replica_set import alone
from orchestrator.tiers.patience import DraftPatience
from orchestrator.tiers.remote_proposer import RemoteProposer
from orchestrator.tiers.remote_verifier import RemoteVerifier
from tests.stack import LIMITS, running_stack
from tests.waiting import NOTHING_HELD, draft_load, target_load, until

PROMPT = (3, 4, 5)
OPEN = common_pb2.SessionOpen(
    session_id="s",
    token_ids=PROMPT,
    sampling=common_pb2.SamplingParams(temperature=1, top_p=1, repetition_penalty=1),
)


@pytest.fixture
def hasty(monkeypatch):
    """Both tiers end idle sessions soon."""

    def end_soon(requests, open_session, **_):
        return serve_session(requests, open_session, idle_timeout_s=0.3)

    for tier in ("draft_service", "target_service"):
        monkeypatch.setattr(f"{tier}.servicer.serve_session", end_soon)


@pytest.fixture
async def stack(hasty, tiny_target):
    limits = LIMITS.__class__(num_blocks=64, max_sessions=4)
    async with running_stack(tiny_target, tiny_target.proposer(), limits=limits) as stack:
        yield stack


@pytest.mark.parametrize("tier", ["draft", "target"])
async def test_sessions_that_ask_for_nothing_end_and_leave_room(stack, tier):
    if tier == "target":
        method, load = stack.target_stub.Verify, partial(target_load, stack.target_stub)
        opening = target_pb2.VerifyRequest(open=OPEN)
    else:
        method, load = stack.draft_stub.Speculate, partial(draft_load, stack.draft_stub)
        opening = draft_pb2.SpeculateRequest(open=OPEN)
    calls = [method(timeout=60) for _ in range(4)]
    for call in calls:
        await call.write(opening)
        assert (await call.read()).HasField("opened")
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert isinstance(error_from_rpc(caught.value), SessionIdleError)

    async def is_free():
        return await load() == NOTHING_HELD

    await until(is_free)
    again = method(timeout=60)
    await again.write(opening)
    assert (await again.read()).HasField("opened")
    again.cancel()


async def test_the_orchestrator_opens_an_idle_session_again_and_gets_the_same_evidence(stack):
    model: ModelInfo = stack.deployment.target
    answers = []
    for pauses in (False, True):
        session = Session("s", PROMPT, 20, SamplingParams(seed=1))
        verifier = RemoteVerifier(alone(stack.target_stub), model)
        await verifier.start(session)
        if pauses:

            async def is_free():
                return await target_load(stack.target_stub) == NOTHING_HELD

            await until(is_free)
        answer = await verifier.verify(session, Draft())
        answers.append(answer.evidence.positions[0].tail_token_id)
        verifier.close()
    assert answers[0] == answers[1]


async def test_the_orchestrator_gets_a_draft_of_a_session_that_was_idle(stack):
    session = Session("s", PROMPT, 20, SamplingParams(seed=1))
    fingerprint = stack.deployment.target.vocabulary_fingerprint
    patience = DraftPatience(open_s=20, round_s=20)
    proposer = RemoteProposer(alone(stack.draft_stub), fingerprint, patience=patience)
    drafts = []
    for _ in range(2):
        drafted = await proposer.propose(session, Ask(3))
        drafts.append([token.token_id for token in drafted.draft.tokens])
        assert not drafted.has_failed

        async def is_free():
            return await draft_load(stack.draft_stub) == NOTHING_HELD

        await until(is_free)
    assert len(drafts[0]) == 3
    assert drafts[0] == drafts[1]
    proposer.close()


async def test_a_stream_whose_answers_nobody_reads_ends():
    is_closed = asyncio.Event()

    async def pour(_request, _context):
        try:
            while True:
                yield b"x" * 65536
        finally:
            is_closed.set()

    handler = grpc.method_handlers_generic_handler(
        "a.Service", {"Pour": grpc.unary_stream_rpc_method_handler(pour, bytes, bytes)}
    )

    async def load(services):
        services.add_generic_rpc_handlers((handler,))

    options = ServerOptions("127.0.0.1:0", (), drain_grace_s=0.1, unread_timeout_s=0.05)
    server = Server(options)
    await server.start()
    await server.load(load)
    async with open_channel(f"127.0.0.1:{server.port}") as channel:
        call = channel.unary_stream("/a.Service/Pour")(b"", timeout=60)
        assert await call.read()
        await asyncio.wait_for(is_closed.wait(), 60)
        call.cancel()
    await server.drain()
