"""A client meets a store in which something else lies under our keys."""

import pytest
from redis import Redis

from forethought.client import GenerationClient
from forethought.errors import SessionCorruptError, SessionNotFoundError
from forethought.generation import ChatMessage, FollowUp, GenerationRequest, Resume
from tests.sessions.deployments import TENANT, Deployment, asking
from tests.stack import generate
from tests.store.junk import JUNK, replace_by


@pytest.mark.parametrize("name", JUNK)
async def test_a_broken_record_costs_its_own_session_alone(
    deployment: Deployment, redis: Redis, name: str
):
    async with GenerationClient(deployment.addresses) as client:
        answers = [await generate(client, asking()) for _ in range(2)]
        broken, other = (answer.started.session_id for answer in answers)
        (key,) = redis.scan_iter(f"*:session:{broken}")
        replace_by(redis, key, name)
        for prompt in (Resume(broken), FollowUp(broken, (ChatMessage("user", "And?"),))):
            with pytest.raises(SessionCorruptError):
                await generate(client, GenerationRequest(prompt, tenant=TENANT))
        with pytest.raises(SessionCorruptError):
            await client.get_session(broken, TENANT)
        assert [each.session_id async for each in client.sessions(TENANT)] == [other]
        again = await generate(client, GenerationRequest(Resume(other), tenant=TENANT))
        assert again.token_ids == answers[1].token_ids
        await client.delete_session(broken, TENANT)
        with pytest.raises(SessionNotFoundError):
            await client.get_session(broken, TENANT)


@pytest.mark.parametrize("name", JUNK)
async def test_an_index_that_is_none_costs_no_session(
    deployment: Deployment, redis: Redis, name: str
):
    async with GenerationClient(deployment.addresses) as client:
        first = await generate(client, asking())
        (index,) = redis.scan_iter("*:sessions")
        replace_by(redis, index, name)
        second = await generate(client, asking())
        replace_by(redis, index, name)
        for answer in (first, second):
            assert answer.finished.is_durable
            wish = GenerationRequest(Resume(answer.started.session_id), tenant=TENANT)
            assert (await generate(client, wish)).token_ids == answer.token_ids
        assert await client.get_session(first.started.session_id, TENANT)
