"""The next turn of a conversation goes on from the tokens that were said."""

from dataclasses import replace

import pytest

from forethought.client import GenerationClient
from forethought.errors import (
    InvalidArgumentError,
    SessionInUseError,
    SessionNotFoundError,
    SessionUnfinishedError,
)
from forethought.generation import (
    PREDICTION,
    ChatMessage,
    FollowUp,
    GenerationRequest,
    SessionStatus,
)
from tests.sessions.deployments import (
    ALL_MODES,
    GREEDY,
    PROMPT,
    TENANT,
    Deployment,
    Reading,
    asking,
)
from tests.stack import generate
from tests.tiny import EOS_ID
from tests.waiting import until

PARAMS = replace(GREEDY, max_tokens=24)


def following(session_id: str, text: str = "ab", **changes) -> GenerationRequest:
    message = ChatMessage("user", text)
    return GenerationRequest(
        FollowUp(session_id, (message,)), replace(PARAMS, **changes), tenant=TENANT
    )


async def test_its_prompt_is_all_that_was_said_and_the_new_message(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(replace(PARAMS, max_tokens=23)))
        session_id = first.started.session_id
        assert first.token_ids[-1] != EOS_ID
    # Any orchestrator with the same store will do.
    async with GenerationClient(deployment.addresses[1]) as client:
        second = await generate(client, following(session_id))
        content = await client.get_session(session_id, TENANT)
        # What the template puts behind the answer, the message, and what it puts behind that.
        expected = (*PROMPT, *first.token_ids, EOS_ID, 3, 4, EOS_ID)
        direct = await generate(client, replace(asking(PARAMS), prompt=expected))
    assert content.prompt_token_ids == expected
    assert content.session.status is SessionStatus.FINISHED
    assert second.started.session_id == session_id
    assert second.token_ids == direct.token_ids
    assert [token.index for token in second.tokens] == list(range(24))


async def test_a_prompt_that_is_told_is_a_session_of_its_own_that_is_not_kept(
    deployment: Deployment,
):
    async with GenerationClient(deployment.addresses[0]) as client:
        told = await generate(client, asking(replace(PARAMS, prompt_logprobs=1)))
        assert not told.started.is_stored
        with pytest.raises(SessionNotFoundError):
            await client.get_session(told.started.session_id, TENANT)
        kept = await generate(client, asking(PARAMS))
        assert kept.token_ids == told.token_ids
        with pytest.raises(InvalidArgumentError) as refused:
            await generate(client, following(kept.started.session_id, prompt_logprobs=1))
    assert list(refused.value.violations) == ["params.prompt_logprobs"]


async def test_each_turn_has_a_prediction_of_its_own(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(replace(PARAMS, prediction="ab" * 9)))
        follows = following(first.started.session_id)
        plain = await generate(
            client, replace(follows, prompt=replace(follows.prompt, branches=True))
        )
        text = "".join(map(deployment.stack.deployment.tokenizer.token_text, plain.token_ids))
        second = await generate(client, following(first.started.session_id, prediction=text))
    assert second.token_ids == plain.token_ids
    assert not plain.finished.speculation.of(PREDICTION).num_draft_tokens
    predicted = second.finished.speculation.of(PREDICTION)
    assert predicted.num_accepted_tokens == predicted.num_draft_tokens > 0


async def test_branches_begin_at_the_same_turn_and_leave_it_as_it_is(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, replace(asking(PARAMS), note="mine"))
        session_id = first.started.session_id
        before = await client.get_session(session_id, TENANT)
        branches = [
            replace(request, prompt=replace(request.prompt, branches=True), note=text)
            for text in ("ab", "cd")
            for request in [following(session_id, text)]
        ]
        answers = [await generate(client, branch) for branch in branches]
        assert await client.get_session(session_id, TENANT) == before
        contents = [await client.get_session(each.started.session_id, TENANT) for each in answers]
        moved_on = await generate(client, following(session_id))
    assert before.note == "mine"
    assert [each.note for each in contents] == ["ab", "cd"]
    said = (*before.prompt_token_ids, *before.output_token_ids)
    assert all(each.prompt_token_ids[: len(said)] == said for each in contents)
    assert answers[0].token_ids == moved_on.token_ids
    assert len({session_id, *(each.started.session_id for each in answers)}) == 3


@pytest.mark.parametrize("mode", ALL_MODES)
async def test_what_a_last_round_put_behind_the_end_is_not_said(
    right_deployment: Deployment, mode: str
):
    """An answer stops at each of its first tokens in turn, most of them inside of a round."""
    params = replace(ALL_MODES[mode], max_tokens=16)
    num_inside = 0
    async with GenerationClient(right_deployment.addresses[0]) as client:
        free = (await generate(client, asking(params))).token_ids
        for index in range(9):
            if free[index] in free[:index]:
                continue
            stopping = replace(params, stop_token_ids=(free[index],))
            first = await generate(client, asking(stopping))
            assert first.token_ids == free[: index + 1]
            session_id = first.started.session_id
            stored = (await client.get_session(session_id, TENANT)).output_token_ids
            num_inside += len(stored) > len(first.token_ids)
            await generate(client, following(session_id, max_tokens=1))
            prompt = (await client.get_session(session_id, TENANT)).prompt_token_ids
            end = () if free[index] == EOS_ID else (EOS_ID,)
            assert prompt == (*PROMPT, *first.token_ids, *end, 3, 4, EOS_ID)
    assert num_inside


async def test_the_target_need_not_compute_the_earlier_turns_again(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(replace(PARAMS, max_tokens=60)))
        second = await generate(client, following(first.started.session_id))
    num_said = len(PROMPT) + 60
    assert first.started.num_cached_tokens == 0
    # The last block that is full; the last token said was never fed.
    assert second.started.num_cached_tokens >= (num_said - 1) // 16 * 16


async def test_an_end_token_that_was_said_is_not_repeated(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        params = replace(PARAMS, ignore_eos=False, temperature=1.0, max_tokens=200)
        first = await generate(client, asking(replace(params, seed=1)))
        assert first.token_ids[-1] == EOS_ID
        second = await generate(client, following(first.started.session_id))
        content = await client.get_session(second.started.session_id, TENANT)
    assert content.prompt_token_ids == (*PROMPT, *first.token_ids, 3, 4, EOS_ID)


async def test_a_turn_that_is_generated_or_broken_off_has_no_next_one(deployment: Deployment):
    deployment.gate.allow(3)
    async with GenerationClient(deployment.addresses[0]) as client:
        reading = Reading(client, asking())
        await deployment.gate.until_holding()
        await until(lambda: reading.events)
        with pytest.raises((SessionUnfinishedError, SessionInUseError)):
            await generate(client, following(reading.session_id))
        deployment.gate.open()
        await reading.task


async def test_wrong_parameters_leave_the_session_as_it_is(deployment: Deployment):
    async with GenerationClient(deployment.addresses[0]) as client:
        first = await generate(client, asking(PARAMS))
        before = await client.get_session(first.started.session_id, TENANT)
        for changes in ({"top_p": 2.0}, {"max_tokens": 100_000}):
            with pytest.raises(InvalidArgumentError):
                await generate(client, following(first.started.session_id, **changes))
        assert await client.get_session(first.started.session_id, TENANT) == before
        foreign = replace(following(first.started.session_id), tenant="other")
        with pytest.raises(SessionNotFoundError):
            await generate(client, foreign)
