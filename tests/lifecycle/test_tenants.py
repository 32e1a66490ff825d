"""Sessions of one tenant share what they have computed, those of different ones nothing."""

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from forethought.v1 import common_pb2, draft_pb2, target_pb2
from tests.errors.refusals import converse
from tests.stack import generate, running_stack

PROMPT = [2 + (7 * i + i * i) % 10 for i in range(40)]
NUM_SHARED = 32
"""Full blocks of 16 in front of the prompt's last token."""


def opening(tenant):
    sampling = common_pb2.SamplingParams(temperature=1, top_p=1, repetition_penalty=1)
    return common_pb2.SessionOpen(
        session_id="s", token_ids=PROMPT, sampling=sampling, tenant=tenant
    )


async def draft_session(stack, tenant):
    """Tokens that a session on the draft tier found in memory; it computes the prompt."""
    asked = draft_pb2.SpeculateRound(round=1, position=len(PROMPT), num_speculative_tokens=1)
    opened, _ = await converse(
        stack.draft_stub.Speculate,
        [
            draft_pb2.SpeculateRequest(open=opening(tenant)),
            draft_pb2.SpeculateRequest(round=asked),
        ],
    )
    return opened.opened.num_cached_tokens


async def target_session(stack, tenant):
    """The same on the target tier."""
    asked = target_pb2.VerifyRound(round=1, position=len(PROMPT))
    opened, _ = await converse(
        stack.target_stub.Verify,
        [target_pb2.VerifyRequest(open=opening(tenant)), target_pb2.VerifyRequest(round=asked)],
    )
    return opened.opened.num_cached_tokens


@pytest.mark.parametrize("session", [draft_session, target_session])
@pytest.mark.parametrize(("one", "other"), [("a", "b"), ("", "a"), ("a", "")])
async def test_a_prompt_is_found_again_by_its_own_tenant_alone(
    tiny_target, tiny_draft, session, one, other
):
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        assert await session(stack, one) == 0
        assert await session(stack, one) == NUM_SHARED
        assert await session(stack, other) == 0
        assert await session(stack, other) == NUM_SHARED


async def test_the_tenant_of_a_request_reaches_both_tiers(tiny_target, tiny_draft):
    params = GenerationParams(max_tokens=8, ignore_eos=True, num_speculative_tokens=2)
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        await generate(stack.client, GenerationRequest(PROMPT, params, tenant="a"))
        for engine in (stack.target.engine, stack.proposer.engine):
            assert engine.count_reusable(PROMPT, b"a") == NUM_SHARED
            assert engine.count_reusable(PROMPT, b"b") == 0
            assert engine.count_reusable(PROMPT) == 0
