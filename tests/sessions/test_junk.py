"""A client meets a store in which something else lies under our keys."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from redis import Redis

from forethought.client import GenerationClient
from forethought.errors import SessionCorruptError, SessionNotFoundError
from forethought.generation import ChatMessage, FollowUp, GenerationRequest, Resume
from forethought.store.sessions.record_codec import pack_head, pack_round, unpack_record
from forethought.store.sessions.records import CommittedRound, SessionHead
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
            request = GenerationRequest(Resume(answer.started.session_id), tenant=TENANT)
            assert (await generate(client, request)).token_ids == answer.token_ids
        assert await client.get_session(first.started.session_id, TENANT)


def with_request(**changes: object) -> Callable[[SessionHead], SessionHead]:
    """A head with other parameters."""
    return lambda head: replace(
        head, request=json.dumps(json.loads(head.request) | changes).encode()
    )


HEADS: dict[str, Callable[[SessionHead], SessionHead]] = {
    "a token that the model does not have": lambda head: replace(
        head, prompt_token_ids=(3, 99_999, 5)
    ),
    "more room than the model": lambda head: replace(head, max_len=10**6),
    "no room": lambda head: replace(head, max_len=2),
    "texts that are numbers": with_request(stops=[1, 2]),
    "a count that is a text": with_request(num_speculative_tokens="3"),
    "a count below 0": with_request(num_speculative_tokens=-3),
    "too many log-probabilities": with_request(num_logprobs=10**6),
    "a list that is none": with_request(stop_token_ids=None),
}


TOKEN = ("token_id", "origin", "draft_prob", "target_prob", "logprob", "top_logprobs")


def told_otherwise(**changes: object) -> Callable[[CommittedRound], CommittedRound]:
    """A round whose first token is told of otherwise."""

    def change(committed: CommittedRound) -> CommittedRound:
        tokens, *others = json.loads(committed.payload[1:])
        for name, value in changes.items():
            tokens[0][TOKEN.index(name)] = value
        token_ids = tuple(token[0] for token in tokens)
        payload = b"\x02" + json.dumps([tokens, *others]).encode()
        return replace(committed, token_ids=token_ids, payload=payload)

    return change


ROUNDS: dict[str, Callable[[CommittedRound], CommittedRound]] = {
    "a token that the model does not have": told_otherwise(token_id=99_999),
    "an origin that nobody knows": told_otherwise(origin="elsewhere"),
    "no origin": told_otherwise(origin=None),
    "a payload of nothing": lambda committed: replace(committed, payload=b""),
}


@pytest.mark.parametrize("part", [*(f"head: {name}" for name in HEADS), *ROUNDS])
async def test_a_record_that_is_intact_and_cannot_be_is_corrupt(
    deployment: Deployment, redis: Redis, part: str
):
    async with GenerationClient(deployment.addresses) as client:
        session_id = (await generate(client, asking())).started.session_id
        (key,) = redis.scan_iter(f"*:session:{session_id}")
        record = unpack_record(session_id, TENANT, redis.hgetall(key))
        name = part.removeprefix("head: ")
        if name != part:
            redis.hset(key, "h", pack_head(HEADS[name](record.head)))
        else:
            redis.hset(key, "r0", pack_round(session_id, ROUNDS[name](record.rounds[0])))
        for prompt in (Resume(session_id), FollowUp(session_id, (ChatMessage("user", "And?"),))):
            with pytest.raises(SessionCorruptError):
                await generate(client, GenerationRequest(prompt, tenant=TENANT))
        assert [each.session_id async for each in client.sessions(TENANT)] == [session_id]
