"""Log-probabilities of prompts: the model's own, whatever tells them and whatever is cached."""

from contextlib import aclosing
from dataclasses import replace

import pytest

from forethought.errors import InvalidArgumentError
from forethought.generation import (
    MAX_PROMPT_LOGPROBS,
    Finished,
    FinishReason,
    GenerationParams,
    GenerationRequest,
    NoDraftReason,
    PromptToken,
    Started,
    Token,
    Waiting,
)
from orchestrator.request.plan import plan_generation
from tests.engine.token_pool import whole_pass
from tests.lifecycle.gates import gated
from tests.stack import MAX_K, LoadedModel, Stack, generate, running_stack

PROMPT = [3 + place * place % 9 for place in range(MAX_K * 5)]
PARAMS = GenerationParams(max_tokens=12, seed=5, ignore_eos=True, num_speculative_tokens=3)


def asked(num_top: int, prompt=PROMPT, **params) -> GenerationRequest:
    return GenerationRequest(prompt, replace(PARAMS, prompt_logprobs=num_top, **params))


async def prompt_of(stack: Stack, request: GenerationRequest) -> list[PromptToken]:
    """The tokens of the prompt, which come behind the start and before all of the output."""
    events = [event async for event in stack.client.generate(request, timeout_s=120)]
    told = [event for event in events if isinstance(event, PromptToken)]
    assert isinstance(events[0], Started)
    assert events[1 : 1 + len(told)] == told
    return told


@pytest.mark.parametrize("num_prompt_tokens", [1, 2, MAX_K, MAX_K + 1, MAX_K + 2, len(PROMPT)])
@pytest.mark.parametrize("num_top", [0, 4, 20])
async def test_prompt_logprobs_are_those_of_the_models_own_logits(
    badly_drafting: Stack, tiny_target: LoadedModel, num_top: int, num_prompt_tokens: int
):
    prompt = PROMPT[:num_prompt_tokens]
    shape = {"temperature": 0.7, "top_k": 4, "repetition_penalty": 1.5}
    told = await prompt_of(badly_drafting, asked(num_top, prompt, max_tokens=1, **shape))
    assert [token.token_id for token in told] == prompt
    assert [token.index for token in told] == list(range(num_prompt_tokens))
    assert (told[0].logprob, told[0].top_logprobs) == (None, ())
    rows = whole_pass(tiny_target.model, prompt, num_prompt_tokens).log_softmax(dim=-1)
    text_of = badly_drafting.deployment.tokenizer.token_text
    for token, row in zip(told[1:], rows, strict=False):
        assert token.logprob == pytest.approx(float(row[token.token_id]), abs=1e-4)
        top = token.top_logprobs
        best = row.sort(descending=True).values[: min(num_top, 12)].tolist()
        assert [each.logprob for each in top] == pytest.approx(best, abs=1e-4)
        assert [float(row[each.token_id]) for each in top] == pytest.approx(best, abs=1e-4)
        assert [each.text for each in top] == [text_of(each.token_id) for each in top]


async def test_a_prompt_that_is_cached_is_scored_alike_and_all_anew(badly_drafting: Stack):
    first = await prompt_of(badly_drafting, asked(2))
    again = asked(2)
    assert await prompt_of(badly_drafting, again) == first
    answer = await generate(badly_drafting.client, replace(again, params=PARAMS))
    assert answer.started.num_cached_tokens > 0
    events = [event async for event in badly_drafting.client.generate(again)]
    assert events[0].num_cached_tokens == 0


async def test_the_output_is_what_it_is_without_prompt_logprobs(badly_drafting: Stack):
    plain = await generate(badly_drafting.client, GenerationRequest(PROMPT, PARAMS))
    told = await generate(badly_drafting.client, asked(3))
    assert told.token_ids == plain.token_ids
    assert [each.origin for each in told.tokens] == [each.origin for each in plain.tokens]


async def test_the_texts_of_a_prompt_are_its_text(badly_drafting: Stack):
    told = await prompt_of(badly_drafting, asked(0, "abcabd", max_tokens=0))
    assert "".join(token.text for token in told) == "abcabd"


async def test_a_prompt_alone_can_be_asked_for(badly_drafting: Stack):
    events = [event async for event in badly_drafting.client.generate(asked(1, max_tokens=0))]
    assert not any(isinstance(event, Token) for event in events)
    finished = events[-1]
    assert (finished.reason, finished.num_output_tokens) == (FinishReason.LENGTH, 0)
    assert finished.speculation.no_draft_reason is NoDraftReason.TOO_SHORT
    assert [event.token_id for event in events[1:-1]] == PROMPT


async def test_a_prompt_that_is_scored_is_under_way_and_says_how_far_it_is(
    tiny_target: LoadedModel,
):
    target, gate = gated(tiny_target)
    request = replace(asked(1, max_tokens=0), include_progress=True)
    async with running_stack(target) as stack:
        gate.allow(2)
        async with aclosing(stack.client.generate(request, timeout_s=120)) as events:
            assert isinstance(await anext(events), Started)
            while await anext(events) != Waiting(2 * MAX_K, len(PROMPT) - 1):
                pass
            gate.open()
            rest = [event async for event in events]
    assert isinstance(rest[-1], Finished)


async def test_more_of_a_prompt_than_an_answer_holds_is_refused_unread(badly_drafting: Stack):
    # No tier is asked: the plan is refused.
    target = replace(badly_drafting.deployment.target, max_model_len=MAX_PROMPT_LOGPROBS)
    deployment = replace(badly_drafting.deployment, target=target)
    most = MAX_PROMPT_LOGPROBS // 21
    plan_generation(asked(20, [3] * most), deployment)
    with pytest.raises(InvalidArgumentError) as refused:
        plan_generation(asked(20, [3] * (most + 1)), deployment)
    assert list(refused.value.violations) == ["params.prompt_logprobs"]
    assert str(most) in refused.value.message
