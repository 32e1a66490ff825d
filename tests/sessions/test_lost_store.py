"""A store that is away, hangs or forgets costs durability, and no token."""

import asyncio
import signal

import pytest

from forethought.client import GenerationClient
from forethought.generation import GenerationRequest, Resume
from tests.sessions.deployments import (
    NUM_TOKENS,
    SEEDED,
    TENANT,
    Deployment,
    Reading,
    asking,
    deployed,
)
from tests.stack import generate
from tests.store.connections import impatient
from tests.waiting import until


@pytest.fixture
async def own_deployment(tiny_target, tiny_draft, own_server):
    deploying = deployed(tiny_target, tiny_draft, own_server.url)
    async with deploying as deployment:
        yield deployment


async def started(deployment: Deployment, client: GenerationClient) -> Reading:
    """An answer that waits in the middle, stored so far."""
    deployment.gate.allow(4)
    reading = Reading(client, asking())
    await deployment.gate.until_holding()
    await until(lambda: len(reading.tokens) > 2)
    return reading


async def test_a_store_that_ends_in_the_middle_costs_no_token(own_deployment, own_server):
    async with GenerationClient(own_deployment.addresses) as client:
        expected = await generate(client, asking())
        reading = await started(own_deployment, client)
        own_server.kill()
        own_deployment.gate.open()
        await reading.task
    assert [t.token_id for t in reading.tokens] == expected.token_ids
    assert not reading.events[-1].is_durable


async def test_a_session_that_could_not_be_stored_says_so_from_the_start(
    own_deployment, own_server
):
    async with GenerationClient(own_deployment.addresses) as client:
        assert (await generate(client, asking())).started.is_stored
        own_server.kill()
        for _ in range(2):
            answer = await generate(client, asking())
            assert not answer.started.is_stored
            assert not answer.finished.is_durable
        own_server.start()

        async def is_stored_again() -> bool:
            return (await generate(client, asking())).started.is_stored

        await until(is_stored_again)


async def test_a_session_whose_start_was_told_is_in_the_store(own_deployment, own_server):
    async with GenerationClient(own_deployment.addresses) as client:
        own_deployment.gate.allow(0)
        reading = Reading(client, asking())
        await until(lambda: reading.events)
        assert reading.events[0].is_stored
        with own_server.client() as redis:
            assert list(redis.scan_iter(f"*:session:{reading.session_id}"))
        own_deployment.gate.open()
        await reading.task


async def test_a_session_is_durable_again_when_the_store_is_back_and_empty(
    own_deployment, own_server
):
    async with GenerationClient(own_deployment.addresses) as client:
        reading = await started(own_deployment, client)
        own_server.kill()
        own_deployment.gate.open()
        await reading.task
        own_server.start()
        background = own_deployment.orchestrators[0].sessions.background
        await until(lambda: background.num_recovered == background.num_not_durable > 0)
        request = GenerationRequest(Resume(reading.session_id), tenant=TENANT)
        again = await generate(client, request)
    assert again.token_ids == [t.token_id for t in reading.tokens]


async def test_a_session_that_was_flushed_is_stored_again_while_it_goes_on(
    own_deployment, own_server
):
    async with GenerationClient(own_deployment.addresses) as client:
        reading = await started(own_deployment, client)
        with own_server.client() as redis:
            redis.flushall()
        own_deployment.gate.open()
        await reading.task
        content = await client.get_session(reading.session_id, TENANT)
    assert reading.events[-1].is_durable
    assert list(content.output_token_ids[:NUM_TOKENS]) == [t.token_id for t in reading.tokens]


async def test_a_client_that_loses_store_and_orchestrator_gets_the_same_text(
    own_deployment, own_server
):
    async with GenerationClient(own_deployment.addresses) as client:
        expected = await generate(client, asking())
        reading = await started(own_deployment, client)
        with own_server.client() as redis:
            redis.flushall()
        await own_deployment.orchestrators[0].kill()
        own_deployment.gate.open()
        await reading.task
    assert [t.token_id for t in reading.tokens] == expected.token_ids
    assert [t.index for t in reading.tokens] == list(range(NUM_TOKENS))


async def test_requests_begin_without_a_store(own_deployment, own_server):
    own_server.kill()
    async with GenerationClient(own_deployment.addresses) as client:
        answer = await generate(client, asking())
    assert len(answer.tokens) == NUM_TOKENS
    assert not answer.finished.is_durable


async def test_a_store_that_hangs_delays_each_stream_once(own_deployment, own_server):
    async with GenerationClient(own_deployment.addresses) as client:
        readings = [await started(own_deployment, client)]
        connections = own_deployment.orchestrators[0].sessions._connections
        own_server.signal(signal.SIGSTOP)
        try:
            with impatient(*connections):
                own_deployment.gate.open()
                readings += [Reading(client, asking(SEEDED)) for _ in range(7)]
                await asyncio.gather(*(reading.task for reading in readings))
            # Each write that a stream waits for ends it as durable, and none comes after that.
            num_waits = own_deployment.orchestrators[0].sessions.background.num_not_durable
        finally:
            own_server.signal(signal.SIGCONT)
    for reading in readings:
        assert [t.index for t in reading.tokens] == list(range(NUM_TOKENS))
    assert num_waits == len(readings)
