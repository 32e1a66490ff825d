"""Sessions over several draft replicas: always the target's text, and drafts again soon."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import structlog

from forethought.deployment import Standing
from forethought.errors import VocabularyMismatchError
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.requests import Reader, asking
from tests.replicas.tiers import EXACT, a_draft, a_fleet
from tests.stack import generate, loaded
from tests.tiny import write_tiny_model
from tests.waiting import until

LONG = {"max_tokens": 1000}
PARAMS = pytest.mark.parametrize("params", EXACT.values(), ids=EXACT)


@pytest.fixture(scope="module")
def foreign_draft(tmp_path_factory):
    """A draft with a vocabulary of its own."""
    return loaded(write_tiny_model(tmp_path_factory.mktemp("foreign"), vocab_size=11, seed=3))


@asynccontextmanager
async def drafting(fleet, request):
    """An answer that has drafts, whose target takes one pass at a time; and its draft replica."""
    for member in fleet.targets.values():
        member.gate.allow(6)
    reader = Reader()
    task = asyncio.create_task(reader.read(fleet.client, request))
    try:
        await until(lambda: any(step.drafted for step in reader.steps))
        yield reader, fleet.draft_of_session()
    finally:
        for member in fleet.targets.values():
            member.gate.open()
        task.cancel()
        await asyncio.wait((task,))


async def until_drafts_again(fleet, reader):
    """Lets rounds go on until one of them has a draft."""
    num_before = len(reader.steps)

    def drafts_again():
        for member in fleet.targets.values():
            member.gate.allow(1)
        return any(step.drafted for step in reader.steps[num_before + 1 :])

    await until(drafts_again)


async def says_what_the_target_says_alone(fleet, reader, params):
    """Whether the tokens so far are those that the target says without a draft."""
    for member in fleet.targets.values():
        member.gate.open()
    tokens = list(reader.tokens)
    request = asking(params, max_tokens=len(tokens), num_speculative_tokens=0)
    alone = await generate(fleet.client, request)
    return [token.token_id for token in tokens] == alone.token_ids


@PARAMS
async def test_a_session_whose_draft_dies_has_another_one_soon(long_target, long_draft, params):
    async with (
        a_fleet(long_target, long_draft) as fleet,
        drafting(fleet, asking(params, **LONG)) as (reader, lost),
    ):
        [other] = fleet.others(lost)
        await lost.die()
        await until_drafts_again(fleet, reader)
        assert other.num_sessions == 1
        assert await says_what_the_target_says_alone(fleet, reader, params)


async def test_sessions_leave_a_draft_that_drains(long_target, long_draft):
    async with (
        a_fleet(long_target, long_draft) as fleet,
        drafting(fleet, asking(**LONG)) as (reader, draining),
    ):
        [other] = fleet.others(draining)
        draining.close_to_sessions()
        await until(lambda: fleet.known(draining).standing is Standing.CLOSED)
        await until_drafts_again(fleet, reader)
        await until(lambda: (draining.num_sessions, other.num_sessions) == (0, 1))
        assert await says_what_the_target_says_alone(fleet, reader, EXACT["greedy"])


async def test_a_draft_that_owes_an_answer_for_too_long_is_left_for_another(
    long_target, long_draft
):
    patience = DraftPatience(open_s=1, round_s=0.3, first_backoff_s=0.05)
    async with (
        a_fleet(long_target, long_draft, draft_patience=patience) as fleet,
        drafting(fleet, asking(**LONG)) as (reader, silent),
    ):
        [other] = fleet.others(silent)
        silent.gate.allow(0)
        await until_holding_through_rounds(fleet, silent)
        await until_drafts_again(fleet, reader)
        assert other.num_sessions == 1
        silent.gate.open()
        await until(lambda: not silent.num_sessions)


async def until_holding_through_rounds(fleet, draft):
    """Lets rounds go on until the draft is held in one."""

    def is_holding():
        for member in fleet.targets.values():
            member.gate.allow(1)
        return draft.gate.is_holding

    await until(is_holding)


async def test_without_any_draft_the_target_works_alone(long_target, long_draft):
    async with a_fleet(long_target, long_draft) as fleet:
        expected = await generate(fleet.client, asking())
        for member in fleet.drafts.values():
            await member.die()
            await until(lambda member=member: not fleet.known(member).is_healthy)
        answer = await generate(fleet.client, asking())
    assert answer.text == expected.text
    assert answer.finished.speculation.num_draft_tokens == 0


async def test_a_draft_with_another_vocabulary_is_refused_for_itself(
    long_target, long_draft, foreign_draft
):
    with structlog.testing.capture_logs() as logs:
        async with (
            a_draft(foreign_draft) as foreign,
            a_fleet(long_target, long_draft, more_drafts=[foreign.address]) as fleet,
        ):
            await until(lambda: fleet.known(foreign).standing is Standing.REFUSED)
            for first in range(3, 9):
                request = replace(asking(max_tokens=8), prompt=(first, 4, 5))
                answer = await generate(fleet.client, request)
                assert answer.finished.speculation.num_draft_failures == 0
                assert answer.finished.speculation.num_draft_tokens > 0
    assert sum(log["event"] == "replica_refused" for log in logs) == 1


async def test_drafts_that_all_have_another_vocabulary_are_an_error_that_names_them(
    long_target, long_draft, foreign_draft
):
    async with (
        a_draft(foreign_draft) as foreign,
        a_fleet(long_target, long_draft, num_drafts=0, more_drafts=[foreign.address]) as fleet,
    ):
        await until(lambda: fleet.known(foreign).standing is Standing.REFUSED)
        with pytest.raises(VocabularyMismatchError, match="do not share a vocabulary"):
            await generate(fleet.client, asking())
