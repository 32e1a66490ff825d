"""A turn that is cancelled ends where it is, wherever it is generated."""

import pytest

from forethought.client import GenerationClient
from forethought.errors import SessionCancelledError, SessionNotFoundError
from forethought.generation import GenerationRequest, Resume, SessionStatus
from tests.sessions.deployments import TENANT, Deployment, Reading, asking
from tests.sessions.test_follow_up import following
from tests.stack import generate
from tests.waiting import until


async def test_a_cancelled_turn_ends_for_whoever_generates_it_and_stays_as_it_is(
    deployment: Deployment,
):
    deployment.gate.allow(3)
    first, second = deployment.addresses
    async with GenerationClient(first) as client, GenerationClient(second) as other:
        reading = Reading(client, asking())
        await deployment.gate.until_holding()
        await until(lambda: reading.events)
        cancelled = await other.cancel_session(reading.session_id, TENANT)
        assert cancelled.status is SessionStatus.CANCELLED
        deployment.gate.open()
        with pytest.raises(SessionCancelledError):
            await reading.task
        after = (await other.get_session(reading.session_id, TENANT)).session
        assert (after.status, after.num_tokens) == (cancelled.status, cancelled.num_tokens)
        for request in (
            GenerationRequest(Resume(reading.session_id), tenant=TENANT),
            following(reading.session_id),
        ):
            with pytest.raises(SessionCancelledError):
                await generate(client, request)


async def test_a_finished_turn_is_left_as_it_is(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        answer = await generate(client, asking())
        session_id = answer.started.session_id
        left = await client.cancel_session(session_id, TENANT)
        assert left.status is SessionStatus.FINISHED
        again = GenerationRequest(Resume(session_id), tenant=TENANT)
        assert (await generate(client, again)).token_ids == answer.token_ids


async def test_another_tenant_cancels_nothing(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        answer = await generate(client, asking())
        with pytest.raises(SessionNotFoundError):
            await client.cancel_session(answer.started.session_id, "another")
