"""A draft that is a third as slow as its target makes its drafts while the target verifies."""

import statistics
from dataclasses import replace

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.types import VerificationMode
from tests.lifecycle.throttle import throttled
from tests.stack import Answer, generate, running_stack

TARGET_S = 0.06
DRAFT_S = TARGET_S / 3
REPEATS = 3


async def answer(target, draft, request: GenerationRequest, *, looks_ahead: bool) -> Answer:
    proposer = throttled(draft, DRAFT_S).proposer()
    proposer.num_bets = int(looks_ahead)
    async with running_stack(throttled(target, TARGET_S), proposer) as stack:
        return await generate(stack.client, request)


def seconds_a_token(answer: Answer) -> float:
    """After the first token."""
    finished = answer.finished
    decoding_ns = finished.total_ns - finished.time_to_first_token_ns
    return decoding_ns / 1e9 / (finished.num_output_tokens - 1)


@pytest.mark.parametrize(
    "params",
    [
        GenerationParams(temperature=0),
        GenerationParams(seed=3, verification_mode=VerificationMode.COUPLED),
    ],
    ids=["greedy", "coupled"],
)
async def test_lookahead_makes_the_same_text_at_least_15_percent_faster(long_target, params):
    params = replace(params, max_tokens=48, ignore_eos=True, num_speculative_tokens=3)
    request = GenerationRequest([3, 4, 5, 6, 7], params)
    speedups = []
    for _ in range(REPEATS):
        plain = await answer(long_target, long_target, request, looks_ahead=False)
        ahead = await answer(long_target, long_target, request, looks_ahead=True)
        assert ahead.token_ids == plain.token_ids
        assert ahead.finished.speculation.lookahead.num_hits > 0
        assert plain.finished.speculation.lookahead.num_hits == 0
        speedups.append(seconds_a_token(plain) / seconds_a_token(ahead))
    assert statistics.median(speedups) >= 1.15
