"""Whatever a client says to a tier, of whatever kind, it is answered or refused by name."""

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draft_service.proposer import Proposer
from draft_service.servicer import DraftServicer
from forethought.errors import ForethoughtError
from forethought.rpc.session_stream import serve_session
from forethought.v1 import draft_pb2, target_pb2
from target_service.servicer import TargetServicer
from tests.errors import hostile
from tests.errors.test_fuzz import open_draft, open_target
from tests.stack import LIMITS, LoadedModel, loaded
from tests.tiny import OVERLAPPING_TOKENS, write_tiny_model
from tests.waiting import NOTHING_HELD, until

ALLOWED = {"INVALID_ARGUMENT", "FAILED_PRECONDITION"}

storm = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


async def converse(messages, open_session) -> None:
    """Sends all messages; what is refused must say why."""

    async def requests():
        for message in messages:
            yield message

    try:
        async with aclosing(serve_session(requests(), open_session)) as answers:
            async for answer in answers:
                answer.SerializeToString()
    except ForethoughtError as error:
        if error.code not in ALLOWED:
            raise


@pytest.fixture(scope="module", params=["model", "translated", "feature"])
def proposer(request, runner, tiny_target, tiny_feature_folder, tmp_path_factory):
    made = runner.run(make_proposer(request, tiny_target, tiny_feature_folder, tmp_path_factory))
    yield made
    runner.run(made.close())


async def make_proposer(request, target: LoadedModel, feature_folder, tmp_path_factory) -> Proposer:
    match request.param:
        case "model":
            proposer = target.proposer()
            proposer.num_bets = 3
            proposer.min_prob = 0.2
            return proposer
        case "feature":
            return target.feature(feature_folder).proposer()
        case _:
            folder = tmp_path_factory.mktemp("tiny") / "overlapping"
            draft = loaded(write_tiny_model(folder, tokens=OVERLAPPING_TOKENS, seed=1))
            return draft.translated(target.tokenizer)


@storm
@given(messages=st.lists(hostile.SPECULATE, max_size=6), is_open=st.booleans())
def test_no_messages_make_a_draft_of_any_kind_fail(runner, proposer, messages, is_open):
    first = [draft_pb2.SpeculateRequest.FromString(open_draft())] if is_open else []
    servicer = DraftServicer(proposer)

    async def play():
        await converse([*first, *messages], servicer._open)
        await until(lambda: proposer.load() == NOTHING_HELD)

    runner.run(play())


@pytest.fixture(scope="module")
def target(runner, tiny_target):
    async def make():
        return TargetServicer(tiny_target.model, tiny_target.info, LIMITS)

    made = runner.run(make())
    yield made
    runner.run(made.close())


@storm
@given(messages=st.lists(hostile.VERIFY, max_size=6), is_open=st.booleans())
def test_no_messages_make_a_target_fail(runner, target, messages, is_open):
    first = [target_pb2.VerifyRequest.FromString(open_target())] if is_open else []

    async def play():
        await converse([*first, *messages], target._open)
        await until(lambda: target.engine.load() == NOTHING_HELD)

    runner.run(play())
