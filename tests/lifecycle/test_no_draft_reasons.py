"""Where nothing was drafted, the statistics say why."""

import asyncio
from dataclasses import replace

import pytest

from forethought.compatibility import unusable_draft
from forethought.deployment import Standing
from forethought.generation import NoDraftReason
from forethought.tier import HiddenStatesNeed
from orchestrator.request.plan import PolicyKind
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.requests import asking
from tests.lifecycle.servers import stop_abruptly
from tests.replicas.test_feature_drafts import foreign_draft
from tests.replicas.tiers import a_draft, a_fleet
from tests.stack import generate, running_stack
from tests.waiting import until

__all__ = ["foreign_draft"]

SHORT = {"max_tokens": 8}


async def statistics_of(client, **changes):
    answer = await generate(client, asking(**(SHORT | changes)))
    assert not answer.finished.speculation.num_draft_tokens
    return answer.finished.speculation


async def test_a_request_for_no_drafts_gets_none(tiny_target, tiny_draft):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        found = await statistics_of(stack.client, num_speculative_tokens=0)
    assert found.no_draft_reason is NoDraftReason.NOT_ASKED


async def test_a_deployment_without_a_draft_has_none(tiny_target, tiny_draft):
    async with running_stack(tiny_target) as stack:
        found = await statistics_of(stack.client)
    assert found.no_draft_reason is NoDraftReason.NOT_CONFIGURED


async def test_a_lookup_may_find_nothing(tiny_target, tiny_draft):
    async with running_stack(tiny_target, lookups=[tiny_target.ngram(min_match=50)]) as stack:
        found = await statistics_of(stack.client)
    assert found.no_draft_reason is NoDraftReason.NOTHING_FOUND


async def test_an_answer_of_one_token_is_too_short(tiny_target, tiny_draft):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        found = await statistics_of(stack.client, max_tokens=1)
    assert found.no_draft_reason is NoDraftReason.TOO_SHORT


async def test_a_draft_that_is_gone_is_down(tiny_target, tiny_draft):
    patience = DraftPatience(open_s=0.5, round_s=0.5)
    async with running_stack(tiny_target, tiny_draft.proposer(), draft_patience=patience) as stack:
        await stop_abruptly(stack.draft_server)
        found = await statistics_of(stack.client)
    assert found.no_draft_reason is NoDraftReason.DOWN
    assert found.no_draft_detail == ""


@pytest.mark.parametrize("policy", PolicyKind)
async def test_drafts_that_are_all_lost_are_down_whether_they_were_asked_or_not(
    tiny_target, tiny_draft, policy
):
    async with a_fleet(tiny_target, tiny_draft, policy=policy) as fleet:
        for draft in fleet.drafts.values():
            await draft.die()
            await until(lambda draft=draft: not fleet.known(draft).is_answering)
        found = await statistics_of(fleet.client, num_speculative_tokens=None)
    assert found.no_draft_reason is NoDraftReason.DOWN


async def test_a_draft_that_does_not_answer_is_late(tiny_target, tiny_draft):
    proposer = tiny_draft.proposer()

    async def never(*_):
        await asyncio.Event().wait()

    proposer.engine.run = never
    patience = DraftPatience(open_s=20, round_s=1)
    async with running_stack(tiny_target, proposer, draft_patience=patience) as stack:
        found = await statistics_of(stack.client)
    assert found.no_draft_reason is NoDraftReason.LATE


async def test_a_refused_draft_is_named_with_its_target(long_target, long_draft, foreign_draft):
    async with (
        a_draft(foreign_draft) as foreign,
        a_fleet(long_target, long_draft, num_drafts=0, more_drafts=[foreign.address]) as fleet,
    ):
        await until(lambda: fleet.known(foreign).standing is Standing.REFUSED)
        found = await statistics_of(fleet.client)
    assert found.no_draft_reason is NoDraftReason.REFUSED
    assert foreign_draft.info.name in found.no_draft_detail
    assert long_target.info.name in found.no_draft_detail


async def test_drafts_that_are_not_expected_to_pay_are_not_asked_for(tiny_target, tiny_draft):
    # A draft as slow as an hour a token.
    proposer = tiny_draft.proposer()
    costs = tuple(replace(cost, forward_ns=10**12) for cost in tiny_target.info.pass_costs)
    async with a_fleet(tiny_target, tiny_draft, policy=PolicyKind.ADAPTIVE) as fleet:
        for known in fleet.known_drafts.all:
            known.model = replace(proposer.info, pass_costs=costs or known.model.pass_costs)
        await proposer.close()
        found = await statistics_of(fleet.client, num_speculative_tokens=None)
    assert found.no_draft_reason is NoDraftReason.DID_NOT_PAY


async def test_where_something_was_drafted_there_is_no_reason(tiny_target, tiny_draft):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        answer = await generate(stack.client, asking())
    assert answer.finished.speculation.num_draft_tokens
    assert answer.finished.speculation.no_draft_reason is None


def test_a_feature_draft_of_another_target_is_named_with_it(tiny_target):
    target = replace(tiny_target.info, name="the target")
    need = HiddenStatesNeed("another", target.hidden_size)
    why = unusable_draft(replace(target, name="the draft", hidden_states_need=need), target)
    assert "the draft" in why
    assert "the target" in why
