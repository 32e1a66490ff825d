"""Where generations through running services end."""

from dataclasses import replace

import pytest

from forethought.generation import FinishReason, GenerationParams, GenerationRequest
from forethought.sampling.types import TokenOrigin
from tests.stack import Stack, generate
from tests.tiny import EOS_ID

ACCEPTED = TokenOrigin.ACCEPTED
PROMPT = [3, 5, 7]
PARAMS = GenerationParams(max_tokens=40, seed=11, ignore_eos=True, num_speculative_tokens=8)


def with_params(**changes) -> GenerationRequest:
    return GenerationRequest(PROMPT, replace(PARAMS, **changes))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("length", [1, 2, 4])
async def test_a_stop_text_inside_an_accepted_draft_ends_the_output_before_it(
    self_drafting: Stack, length: int, temperature: float
):
    free = await generate(self_drafting.client, with_params(temperature=temperature))
    # Characters are tokens here, so a longer stop text spans tokens.
    runs = [free.tokens[place : place + length] for place in range(12, 30)]
    accepted = [run for run in runs if all(t.text and t.origin is ACCEPTED for t in run)]
    stop = "".join(token.text for token in accepted[-1])
    place = free.text.index(stop)

    stopped = await generate(
        self_drafting.client, with_params(temperature=temperature, stop=["no such text", stop])
    )
    assert stopped.text == free.text[:place]
    assert [t for t in stopped.tokens if t.text] == [t for t in free.tokens if t.text][:place]
    assert stopped.finished.reason is FinishReason.STOP
    assert stopped.finished.matched_stop == stop
    assert stopped.finished.matched_stop_token_id is None
    num_hidden = stopped.finished.num_output_tokens - len(stopped.tokens)
    assert num_hidden >= length


async def test_a_stop_text_ends_alike_with_and_without_speculation(badly_drafting: Stack):
    free = await generate(badly_drafting.client, with_params(temperature=0))
    stop = free.text[17:20]
    texts = ["".join(t.text for t in free.tokens[: index + 1]) for index in range(30)]
    num_tokens = 1 + next(index for index, text in enumerate(texts) if stop in text)
    for k in (0, 1, 3, 8):
        request = with_params(temperature=0, stop=[stop], num_speculative_tokens=k)
        stopped = await generate(badly_drafting.client, request)
        assert stopped.text == free.text[: free.text.index(stop)]
        assert stopped.finished.num_output_tokens == num_tokens


async def test_a_stop_text_that_never_comes_changes_nothing(self_drafting: Stack):
    free = await generate(self_drafting.client, with_params())
    almost = free.text[-3:] + "!"
    held = await generate(self_drafting.client, with_params(stop=[almost]))
    assert held.tokens == free.tokens
    assert held.finished.reason is FinishReason.LENGTH
    assert held.finished.num_output_tokens == len(free.tokens) == PARAMS.max_tokens


async def test_a_stop_token_inside_an_accepted_draft_ends_the_output_with_it(self_drafting: Stack):
    free = await generate(self_drafting.client, with_params())
    stop_token_id = free.token_ids[25]
    place = free.token_ids.index(stop_token_id)
    stopped = await generate(self_drafting.client, with_params(stop_token_ids=[stop_token_id]))
    assert stopped.tokens == free.tokens[: place + 1]
    assert stopped.finished.reason is FinishReason.STOP
    assert stopped.finished.matched_stop_token_id == stop_token_id
    assert stopped.finished.matched_stop == ""
    assert stopped.finished.num_output_tokens == place + 1


async def test_the_end_token_ends_the_output_unless_it_is_ignored(self_drafting: Stack):
    free = await generate(self_drafting.client, with_params())
    place = free.token_ids.index(EOS_ID)
    ended = await generate(self_drafting.client, with_params(ignore_eos=False))
    assert ended.tokens == free.tokens[: place + 1]
    assert ended.tokens[-1].text == ""
    assert ended.finished.reason is FinishReason.STOP
    assert ended.finished.matched_stop_token_id == EOS_ID
    assert free.finished.reason is FinishReason.LENGTH


async def test_an_ignored_end_token_can_still_be_asked_for(self_drafting: Stack):
    request = with_params(ignore_eos=True, stop_token_ids=[EOS_ID])
    stopped = await generate(self_drafting.client, request)
    assert stopped.finished.matched_stop_token_id == EOS_ID


@pytest.mark.parametrize("max_tokens", [1, 2, 10, 253])
async def test_max_tokens_is_met_exactly_up_to_the_end_of_the_model(
    self_drafting: Stack, max_tokens: int
):
    answer = await generate(self_drafting.client, with_params(max_tokens=max_tokens))
    assert len(answer.tokens) == answer.finished.num_output_tokens == max_tokens
    assert answer.finished.num_prompt_tokens == len(PROMPT)
    assert answer.finished.reason is FinishReason.LENGTH
    assert answer.finished.speculation.num_draft_failures == 0
    assert [token.index for token in answer.tokens] == list(range(max_tokens))


async def test_the_text_is_the_tokenizers(badly_drafting: Stack):
    answer = await generate(badly_drafting.client, with_params())
    assert answer.text == badly_drafting.deployment.tokenizer.decode(answer.token_ids)
