"""A coupled session whose draft is lost, late or away says what it would have said with it."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from forethought.sampling.types import VerificationMode
from orchestrator.tiers.patience import DraftPatience
from tests.lifecycle.gates import gated
from tests.lifecycle.requests import SEEDED, asking
from tests.lifecycle.servers import liar_at, stop_abruptly
from tests.lifecycle.test_lost_draft import OPENED, SOON, a_stack, draft, reading, token
from tests.stack import generate, running_stack
from tests.waiting import until

COUPLED = replace(SEEDED, verification_mode=VerificationMode.COUPLED)


async def text_alone(stack, **changes):
    answer = await generate(stack.client, asking(COUPLED, num_speculative_tokens=0, **changes))
    return answer.text


async def test_a_draft_that_is_lost_half_way_changes_no_text(long_target, long_draft):
    async with a_stack(long_target, long_draft) as (stack, gate):
        expected = await text_alone(stack)
        gate.allow(8)
        async with reading(stack, asking(COUPLED)) as reader:
            await gate.until_holding()
            await stop_abruptly(stack.draft_server)
            gate.open()
            await until(lambda: reader.finished)
    assert reader.text == expected
    assert reader.steps[2].drafted
    assert not reader.steps[-1].drafted
    assert reader.finished.speculation.num_draft_failures > 0


async def test_rejection_sampling_says_something_else_when_it_loses_its_draft(
    long_target, long_draft
):
    """The check above would notice a text that depends on the draft."""
    async with a_stack(long_target, long_draft) as (stack, _):
        with_draft = await generate(stack.client, asking(SEEDED))
        await stop_abruptly(stack.draft_server)
        without = await generate(stack.client, asking(SEEDED))
    assert without.text != with_draft.text


async def test_a_late_draft_changes_no_text(long_target, long_draft):
    slow_draft, draft_gate = gated(long_draft)
    patience = SimpleNamespace(**asdict(DraftPatience(open_s=60, round_s=60)))
    async with a_stack(long_target, slow_draft, patience) as (stack, gate):
        gate.allow(3)
        async with reading(stack, asking(COUPLED)) as reader:
            await gate.until_holding()
            # It has drafted; from now on it comes too late for every round.
            patience.round_s = 0.1
            draft_gate.allow(0)
            gate.open()
            await until(lambda: reader.finished)
        draft_gate.open()
        assert reader.text == await text_alone(stack)
    assert reader.finished.speculation.num_draft_failures > 0
    assert reader.finished.speculation.num_draft_tokens > 0


@pytest.mark.parametrize("mode", VerificationMode)
async def test_guesses_without_distributions_are_for_coupled_sessions_alone(tiny_target, mode):
    """In the other modes they are a lost draft: there is nothing that they could be judged by."""

    def answer(request):
        if request.HasField("open"):
            return OPENED
        return draft(request, token(support=(), probs=()))

    params = replace(COUPLED, temperature=0, max_tokens=10, verification_mode=mode)
    async with running_stack(tiny_target, tiny_target.proposer(), draft_patience=SOON) as stack:
        await stop_abruptly(stack.draft_server)
        async with liar_at(stack.draft_address, answer):
            result = await generate(stack.client, asking(params))
        expected = await generate(stack.client, asking(params, num_speculative_tokens=0))
    assert result.text == expected.text
    speculation = result.finished.speculation
    is_taken = mode is VerificationMode.COUPLED
    assert (speculation.num_draft_tokens > 0) == is_taken
    assert (speculation.num_draft_failures == 0) == is_taken
