"""An answer goes on at another orchestrator, and is what it would have been."""

import asyncio
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError

from forethought.client import GenerationClient
from forethought.errors import (
    InvalidArgumentError,
    LeaseLostError,
    NoStoreError,
    OverloadedError,
    SessionIncompleteError,
    SessionNotFoundError,
)
from forethought.generation import (
    PREDICTION,
    ChatMessage,
    FollowUp,
    GenerationRequest,
    Resume,
    SessionStatus,
)
from forethought.rpc.codecs.generation.request import request_to_proto
from forethought.rpc.connections.channels import open_channel
from forethought.rpc.status import error_from_rpc
from forethought.v1 import generation_pb2 as pb
from forethought.v1.generation_pb2_grpc import (
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from orchestrator.request.admission import AdmissionLimits
from orchestrator.request.plan import PolicyKind
from orchestrator.servicer import GenerationServicer
from orchestrator.sessions.durable_sessions import Sessions
from tests.errors.test_error_mapping import as_rpc_error
from tests.lifecycle.servers import serving_at
from tests.orchestrator.test_remote_tiers import ScriptedTier
from tests.sessions.deployments import (
    ALL_MODES,
    GREEDY,
    NUM_TOKENS,
    PATIENT_S,
    SEEDED,
    TENANT,
    Deployment,
    Reading,
    asking,
    orchestrator_beside,
)
from tests.stack import Answer, generate
from tests.waiting import until

modes = pytest.mark.parametrize("params", ALL_MODES.values(), ids=ALL_MODES.keys())


def resuming(session_id: str, next_index: int):
    return GenerationRequest(Resume(session_id, next_index), tenant=TENANT)


async def broken_off(deployment: Deployment, params, num_passes: int = 6) -> Reading:
    """An answer whose first orchestrator holds it, some rounds on."""
    deployment.gate.allow(num_passes)
    client = GenerationClient(deployment.addresses[0])
    reading = Reading(client, asking(params))
    await deployment.gate.until_holding()
    await until(lambda: reading.tokens)
    return reading


@pytest.mark.parametrize("num_passes", [1, 2, 7], ids="after {} passes".format)
@modes
async def test_a_client_goes_on_with_the_same_text_when_its_orchestrator_dies(
    deployment: Deployment, params, num_passes
):
    await goes_on_elsewhere(deployment, params, num_passes)


@pytest.mark.parametrize("num_passes", [2, 3, 6], ids="after {} passes".format)
@modes
async def test_a_client_goes_on_with_the_same_text_when_all_guesses_are_right(
    right_deployment: Deployment, params, num_passes
):
    expected = await goes_on_elsewhere(right_deployment, params, num_passes)
    assert max(expected.finished.speculation.num_accepted_tokens_per_position) > 3


@modes
async def test_every_token_of_long_rounds_is_told_again(right_deployment: Deployment, params):
    async with GenerationClient(right_deployment.addresses[0]) as client:
        first = await generate(client, asking(params))
        for next_index in range(10):
            again = await generate(client, resuming(first.started.session_id, next_index))
            assert again.token_ids == first.token_ids[next_index:]
            assert again.text == "".join(token.text for token in first.tokens[next_index:])


async def goes_on_elsewhere(deployment: Deployment, params, num_passes: int) -> Answer:
    """An answer whose orchestrator dies some passes on is what it would have been; returns that."""
    async with GenerationClient(deployment.addresses) as client:
        expected = await generate(client, asking(replace(params, logprobs=2), include_steps=True))
        deployment.gate.allow(num_passes)
        request = asking(replace(params, logprobs=2), include_steps=True)
        reading = Reading(client, request)
        await deployment.gate.until_holding()
        await deployment.orchestrators[0].kill()
        deployment.gate.open()
        await reading.task

    assert [token.index for token in reading.tokens] == list(range(NUM_TOKENS))
    told = [(t.index, t.token_id, t.text, t.origin) for t in reading.tokens]
    assert told == [(t.index, t.token_id, t.text, t.origin) for t in expected.tokens]
    for ours, theirs in zip(reading.tokens, expected.tokens, strict=True):
        assert ours.draft_prob == pytest.approx(theirs.draft_prob, abs=1e-5)
        assert ours.target_prob == pytest.approx(theirs.target_prob, abs=1e-5)
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
        assert [t.token_id for t in ours.top_logprobs] == [t.token_id for t in theirs.top_logprobs]
    steps = [event for event in reading.events if hasattr(event, "drafted")]
    assert [step.round for step in steps] == [step.round for step in expected.steps]
    finished = reading.events[-1]
    assert finished.is_durable
    assert finished.num_output_tokens == NUM_TOKENS
    counts = ("num_rounds", "num_draft_tokens", "num_accepted_tokens_per_position")
    for name in counts:
        assert getattr(finished.speculation, name) == getattr(expected.finished.speculation, name)
    return expected


async def test_a_prediction_is_kept_with_the_session(deployment: Deployment):
    async with GenerationClient(deployment.addresses[1]) as client:
        plain = await generate(client, asking(GREEDY))
    text = "".join(map(deployment.stack.deployment.tokenizer.token_text, plain.token_ids))
    expected = await goes_on_elsewhere(deployment, replace(GREEDY, prediction=text), 3)
    assert expected.token_ids == plain.token_ids
    predicted = expected.finished.speculation.of(PREDICTION)
    assert predicted.num_accepted_tokens == predicted.num_draft_tokens > NUM_TOKENS / 2


async def test_every_step_of_a_finished_answer_is_told_again(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(include_steps=True))
        again = await generate(client, resuming(first.started.session_id, 0))
    assert len(first.steps) > 1
    assert [step.round for step in again.steps] == [step.round for step in first.steps]


async def test_every_step_of_an_answer_that_was_broken_off_is_told_again(deployment: Deployment):
    """To a client that had got nothing of it."""
    async with GenerationClient(deployment.addresses[0]) as client:
        expected = await generate(client, asking(include_steps=True))
        deployment.gate.allow(6)
        reading = Reading(client, asking(include_steps=True))
        await deployment.gate.until_holding()
        await until(lambda: len(reading.tokens) > 1)
        reading.task.cancel()
        deployment.gate.open()
        async with GenerationClient(deployment.addresses[1]) as other:
            again = await generate(other, resuming(reading.session_id, 0))
    assert [step.round for step in again.steps] == [step.round for step in expected.steps]


async def test_a_client_of_one_address_waits_for_its_orchestrator_to_come_back(
    deployment: Deployment, shared_server
):
    first = deployment.orchestrators[0]
    sessions = Sessions(shared_server.url, "back", timeout_s=PATIENT_S)
    servicer = GenerationServicer(
        deployment.stack.deployment, deployment.stack.tiers, AdmissionLimits(), sessions
    )
    async with GenerationClient(first.address) as client:
        expected = await generate(client, asking())
        deployment.gate.allow(4)
        reading = Reading(client, asking())
        await deployment.gate.until_holding()
        await until(lambda: reading.events)  # before that it would not know what to go on with
        await first.kill()
        deployment.gate.open()
        async with serving_at(
            first.address, lambda s: add_GenerationServiceServicer_to_server(servicer, s)
        ):
            await reading.task
    await sessions.close()
    assert [t.token_id for t in reading.tokens] == expected.token_ids


async def test_an_owner_that_lives_stops_when_another_takes_its_session(deployment: Deployment):
    deployment.gate.allow(6)
    async with open_channel(deployment.addresses[0]) as channel:
        call = GenerationServiceStub(channel).Generate(request_to_proto(asking()))
        responses = aiter(call)
        started = (await anext(responses)).started
        await deployment.gate.until_holding()
        async with GenerationClient(deployment.addresses[1]) as other:
            rest = Reading(other, resuming(started.session_id, 1))
            await until(lambda: rest.events)
            deployment.gate.open()
            await rest.task
        with pytest.raises(AioRpcError) as refused:
            async for _ in responses:
                pass
    error = error_from_rpc(refused.value)
    assert isinstance(error, LeaseLostError)
    assert refused.value.code() is StatusCode.ABORTED
    assert [token.index for token in rest.tokens] == list(range(1, NUM_TOKENS))


def refused_resumes(session_id: str) -> dict[str, pb.GenerateRequest]:
    """Requests for a session that are refused."""
    resume = pb.Resume(session_id=session_id)
    return {
        "beyond the end": pb.GenerateRequest(
            resume=pb.Resume(session_id=session_id, next_index=NUM_TOKENS + 1), tenant=TENANT
        ),
        "far beyond": pb.GenerateRequest(
            resume=pb.Resume(session_id=session_id, next_index=2**32 - 1), tenant=TENANT
        ),
        "another tenant's": pb.GenerateRequest(resume=resume, tenant="another"),
        "with parameters": pb.GenerateRequest(
            resume=resume, tenant=TENANT, params=pb.GenerationParams(top_k=3)
        ),
        "a next turn": pb.GenerateRequest(
            follow_up=pb.FollowUp(
                session_id=session_id,
                conversation=pb.Conversation(messages=[pb.ChatMessage(role="user", content="ab")]),
            ),
            tenant=TENANT,
        ),
    }


async def num_owners(deployment: Deployment, session_id: str) -> int:
    """How many have had the lease of a session by now; clients hide that they lost their owner."""
    store = deployment.orchestrators[0].sessions._patient_store
    return (await store.load(TENANT, session_id)).summary.fence


@pytest.mark.parametrize("kind", refused_resumes(""))
async def test_a_request_that_is_refused_leaves_a_session_with_its_owner(
    deployment: Deployment, kind: str
):
    async with GenerationClient(deployment.addresses[0]) as client:
        expected = await generate(client, asking())
        reading = await broken_off(deployment, SEEDED)
        async with open_channel(deployment.addresses[1]) as channel:
            request = refused_resumes(reading.session_id)[kind]
            with pytest.raises(AioRpcError):
                await GenerationServiceStub(channel).Generate(request).read()
        deployment.gate.open()
        await reading.task
    assert [token.token_id for token in reading.tokens] == expected.token_ids
    assert await num_owners(deployment, reading.session_id) == 1


async def test_a_client_that_has_more_than_the_store_takes_an_adaptive_session_from_nobody(
    deployment: Deployment, shared_server
):
    adaptive = orchestrator_beside(deployment.stack, shared_server.url, PolicyKind.ADAPTIVE)
    async with adaptive as orchestrator, GenerationClient(orchestrator.address) as client:
        deployment.gate.allow(3)
        reading = Reading(client, asking(replace(SEEDED, num_speculative_tokens=None)))
        await deployment.gate.until_holding()
        await until(lambda: reading.events)
        with pytest.raises(SessionIncompleteError):
            await generate(client, resuming(reading.session_id, NUM_TOKENS))
        deployment.gate.open()
        await reading.task
    assert len(reading.tokens) == NUM_TOKENS
    assert await num_owners(deployment, reading.session_id) == 1


@asynccontextmanager
async def orchestrator_before_a_full_target(deployment: Deployment, url: str):
    """One whose target takes no session."""
    full = ScriptedTier(*[[as_rpc_error(OverloadedError("full"))] for _ in range(4)])
    stack = copy(deployment.stack)
    stack.tiers = replace(stack.tiers, target=full)
    async with (
        orchestrator_beside(stack, url) as orchestrator,
        GenerationClient(orchestrator.address) as client,
    ):
        yield client


async def test_a_resume_that_the_target_has_no_room_for_leaves_the_session_with_its_owner(
    deployment: Deployment, shared_server
):
    async with orchestrator_before_a_full_target(deployment, shared_server.url) as client:
        reading = await broken_off(deployment, SEEDED)
        with pytest.raises(OverloadedError):
            await generate(client, resuming(reading.session_id, 0))
        deployment.gate.open()
        await reading.task
    assert len(reading.tokens) == NUM_TOKENS
    assert await num_owners(deployment, reading.session_id) == 1


async def test_a_next_turn_that_the_target_has_no_room_for_leaves_the_session_as_it_is(
    deployment: Deployment, shared_server
):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking())
        session_id = first.started.session_id
        before = await client.get_session(session_id, TENANT)
        follow_up = FollowUp(session_id, (ChatMessage("user", "ab"),))
        request = GenerationRequest(follow_up, GREEDY, tenant=TENANT)
        async with orchestrator_before_a_full_target(deployment, shared_server.url) as other:
            with pytest.raises(OverloadedError):
                await generate(other, request)
        assert await client.get_session(session_id, TENANT) == before
        await generate(client, request)


async def test_a_session_that_its_owner_finishes_meanwhile_is_told_whole(
    deployment: Deployment, shared_server
):
    """The owner goes on for as long as the resumed session waits for its target."""
    is_opening, may_open = asyncio.Event(), asyncio.Event()
    stack = copy(deployment.stack)

    def verify_late(**options):
        call = target.Verify(**options)
        write = call.write

        async def write_late(message):
            is_opening.set()
            await may_open.wait()
            await write(message)

        call.write = write_late
        return call

    target = stack.tiers.target
    stack.tiers = replace(stack.tiers, target=SimpleNamespace(Verify=verify_late))
    async with (
        orchestrator_beside(stack, shared_server.url) as orchestrator,
        GenerationClient(orchestrator.address) as client,
    ):
        reading = await broken_off(deployment, SEEDED)
        rest = Reading(client, resuming(reading.session_id, 0))
        await is_opening.wait()
        deployment.gate.open()
        await reading.task

        async def is_finished() -> bool:
            known = await client.get_session(reading.session_id, TENANT)
            return known.session.status is SessionStatus.FINISHED

        await until(is_finished)
        may_open.set()
        await rest.task
    assert [t.token_id for t in rest.tokens] == [t.token_id for t in reading.tokens]
    assert [t.index for t in rest.tokens] == list(range(NUM_TOKENS))


async def test_two_that_resume_at_once_leave_one_that_finishes(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        expected = await generate(client, asking())
    reading = await broken_off(deployment, SEEDED)
    reading.task.cancel()
    channels = [open_channel(address) for address in deployment.addresses]
    stubs = [GenerationServiceStub(channel) for channel in channels]
    request = pb.GenerateRequest(resume=pb.Resume(session_id=reading.session_id), tenant=TENANT)

    async def resume(stub):
        return [token async for response in stub.Generate(request) for token in response.tokens]

    tasks = [asyncio.create_task(resume(stub)) for stub in stubs * 2]
    deployment.gate.open()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for channel in channels:
        await channel.close()
    finished = [result for result in results if isinstance(result, list)]
    assert finished
    for tokens in finished:
        assert [token.token_id for token in tokens] == expected.token_ids
    content = await get(deployment, reading.session_id)
    assert content.session.status is SessionStatus.FINISHED
    assert list(content.output_token_ids[:NUM_TOKENS]) == expected.token_ids


async def get(deployment: Deployment, session_id: str, tenant: str = TENANT):
    async with GenerationClient(deployment.addresses[0]) as client:
        return await client.get_session(session_id, tenant)


async def test_a_finished_session_is_told_again_from_any_token(deployment: Deployment):
    async with GenerationClient(deployment.addresses) as client:
        first = await generate(client, asking(replace(SEEDED, stop=("ab", "cc"))))
        num_passes = deployment.gate.num_passes
        for next_index in range(len(first.tokens) + 1):
            again = await generate(client, resuming(first.started.session_id, next_index))
            told = [(t.index, t.token_id, t.text) for t in first.tokens[next_index:]]
            assert [(t.index, t.token_id, t.text) for t in again.tokens] == told
            assert again.finished.matched_stop == first.finished.matched_stop
            assert again.finished.speculation == first.finished.speculation
        assert deployment.gate.num_passes == num_passes


async def test_a_session_without_rounds_is_resumed_from_its_beginning(deployment: Deployment):
    deployment.gate.allow(0)
    async with GenerationClient(deployment.addresses) as client:
        reading = Reading(client, asking())
        await until(lambda: reading.events)
        await deployment.orchestrators[0].kill()
        deployment.gate.open()
        await reading.task
        expected = await generate(client, asking())
    assert [t.token_id for t in reading.tokens] == expected.token_ids


async def test_tokens_that_the_store_never_got_are_made_again_where_that_is_exact(
    deployment: Deployment, redis
):
    reading = await broken_off(deployment, SEEDED, num_passes=3)
    reading.task.cancel()
    deployment.gate.open()
    async with GenerationClient(deployment.addresses[1]) as client:
        expected = await generate(client, asking(SEEDED))
        rest = await generate(client, resuming(reading.session_id, 20))
    assert [t.token_id for t in rest.tokens] == expected.token_ids[20:]
    assert [t.index for t in rest.tokens] == list(range(20, NUM_TOKENS))


async def test_an_adaptive_session_of_which_the_client_has_more_than_the_store_is_refused(
    deployment: Deployment, shared_server
):
    adaptive = orchestrator_beside(deployment.stack, shared_server.url, PolicyKind.ADAPTIVE)
    async with adaptive as orchestrator, GenerationClient(orchestrator.address) as client:
        deployment.gate.allow(3)
        request = asking(replace(SEEDED, num_speculative_tokens=None))
        reading = Reading(client, request)
        await deployment.gate.until_holding()
        await until(lambda: reading.events)
        reading.task.cancel()
        deployment.gate.open()
        with pytest.raises(SessionIncompleteError):
            await generate(client, resuming(reading.session_id, NUM_TOKENS))
        with pytest.raises(InvalidArgumentError):
            await generate(client, resuming(reading.session_id, NUM_TOKENS + 1))


async def test_foreign_and_forged_ids_are_not_found_and_change_nothing(
    deployment: Deployment, redis
):
    async with GenerationClient(deployment.addresses) as client:
        first = await generate(client, asking())
        session_id = first.started.session_id
        before = {key: redis.dump(key) for key in redis.scan_iter()}
        for forged, tenant in ((session_id, "other"), ("A" * 22, TENANT), ("*", TENANT)):
            foreign = replace(resuming(forged, 0), tenant=tenant)
            for call in (
                generate(client, foreign),
                client.get_session(forged, tenant),
                client.delete_session(forged, tenant),
            ):
                with pytest.raises(SessionNotFoundError):
                    await call
        assert {key: redis.dump(key) for key in redis.scan_iter()} == before
        assert [each async for each in client.sessions("other")] == []


async def test_a_session_that_is_deleted_ends_its_answer(deployment: Deployment):
    reading = await broken_off(deployment, GREEDY)
    async with GenerationClient(deployment.addresses[1]) as client:
        await client.delete_session(reading.session_id, TENANT)
        deployment.gate.open()
        with pytest.raises((LeaseLostError, SessionNotFoundError)):
            await reading.task
        assert [each async for each in client.sessions(TENANT)] == []


async def test_sessions_are_listed_page_by_page_newest_first(deployment: Deployment):
    async with GenerationClient(deployment.addresses) as client:
        begun = [
            (await generate(client, asking(replace(GREEDY, max_tokens=2)))).started.session_id
            for _ in range(5)
        ]
        listed = [each async for each in client.sessions(TENANT, page_size=2)]
        content = await client.get_session(begun[0], TENANT)
    assert {each.session_id for each in listed} == set(begun)
    assert [each.created_ms for each in listed] == sorted(
        (each.created_ms for each in listed), reverse=True
    )
    assert content.session.num_prompt_tokens == 3
    assert len(content.prompt_token_ids) == 3
    assert len(content.output_token_ids) >= 2


async def test_a_resumed_session_takes_no_new_parameters(deployment: Deployment):
    async with open_channel(deployment.addresses[0]) as channel:
        request = pb.GenerateRequest(
            resume=pb.Resume(session_id="A" * 22), params=pb.GenerationParams(top_k=3)
        )
        with pytest.raises(AioRpcError) as refused:
            await GenerationServiceStub(channel).Generate(request).read()
    assert list(error_from_rpc(refused.value).violations) == ["params"]


async def test_without_a_store_there_are_no_sessions(deployment: Deployment):
    client = deployment.stack.client
    answer = await generate(client, asking())
    assert not answer.started.is_stored
    assert not answer.finished.is_durable
    for call in (
        client.get_session(answer.started.session_id),
        generate(client, resuming(answer.started.session_id, 0)),
    ):
        with pytest.raises(NoStoreError):
            await call
