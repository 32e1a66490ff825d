"""Every number that comes with a token is the model's, computed again from scratch.

And the strongest sign that draft and target shape alike: a model that drafts for itself with all of
its distribution is never refuted, whatever shapes the distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from draft_service.model_proposer import ModelProposer, ModelSession
from forethought.engine.rows.draws import draw_drafts
from forethought.engine.rows.filters import shape_logits
from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import TokenOrigin
from forethought.tier import ModelInfo, SessionOpen, TierLoad
from tests.engine.token_pool import whole_pass
from tests.stack import Answer, LoadedModel, Stack, generate, running_stack

PROMPT = [3, 5, 7, 5]
SHAPES = {
    "as it is": {},
    "colder": {"temperature": 0.7},
    "top-k": {"top_k": 4},
    "top-p": {"top_p": 0.8},
    "min-p": {"min_p": 0.15},
    "penalty": {"repetition_penalty": 1.5},
    "all": {
        "temperature": 0.8,
        "top_k": 9,
        "top_p": 0.95,
        "min_p": 0.02,
        "repetition_penalty": 1.3,
    },
}


def request(max_tokens: int = 40, **params) -> GenerationRequest:
    return GenerationRequest(
        PROMPT, GenerationParams(max_tokens=max_tokens, ignore_eos=True, seed=5, **params)
    )


def fresh_logits(model: LoadedModel, answer: Answer) -> torch.Tensor:
    """The model's logits for every token of the answer, [n, V], in one pass without any cache."""
    token_ids = [*PROMPT, *answer.token_ids[:-1]]
    return whole_pass(model.model, token_ids, len(answer.tokens))


def shaped(model: LoadedModel, answer: Answer, params: SamplingParams) -> torch.Tensor:
    """The distribution of every token of the answer, [n, V]."""
    contexts = [[*PROMPT, *answer.token_ids[:index]] for index in range(len(answer.tokens))]
    return shape_logits(fresh_logits(model, answer), params, contexts)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_tp_is_the_shaped_target_probability_and_dp_the_drafts(
    badly_drafting: Stack, tiny_target: LoadedModel, tiny_draft: LoadedModel, shape
):
    answer = await generate(badly_drafting.client, request(num_speculative_tokens=4, **shape))
    sampling = SamplingParams(**shape)
    p = shaped(tiny_target, answer, sampling)
    q = shaped(tiny_draft, answer, sampling)
    origins = {token.origin for token in answer.tokens}
    assert origins == set(TokenOrigin)
    for token, p_row, q_row in zip(answer.tokens, p, q, strict=True):
        assert token.target_prob == pytest.approx(float(p_row[token.token_id]), abs=1e-5)
        assert token.target_prob > 0
        if token.origin is TokenOrigin.ACCEPTED:
            drafted = draw_drafts(q_row[None], 4, [0.0])[0]
            place = drafted.support_token_ids.index(token.token_id)
            assert token.draft_prob == pytest.approx(drafted.draft_probs[place], abs=1e-5)
        else:
            assert token.draft_prob is None


@pytest.mark.parametrize("num_top", [0, 5, 20])
async def test_logprobs_are_the_models_own_before_any_shaping(
    badly_drafting: Stack, tiny_target: LoadedModel, num_top: int
):
    answer = await generate(
        badly_drafting.client,
        request(logprobs=num_top, num_speculative_tokens=4, **SHAPES["all"]),
    )
    text_of = badly_drafting.deployment.tokenizer.token_text
    rows = fresh_logits(tiny_target, answer).log_softmax(dim=-1)
    assert {token.origin for token in answer.tokens} == set(TokenOrigin)
    for token, row in zip(answer.tokens, rows, strict=True):
        assert token.logprob == pytest.approx(float(row[token.token_id]), abs=1e-4)
        top = token.top_logprobs
        assert len(top) == min(num_top, 12)
        best = row.sort(descending=True).values[: len(top)].tolist()
        assert [entry.logprob for entry in top] == pytest.approx(best, abs=1e-4)
        assert [float(row[entry.token_id]) for entry in top] == pytest.approx(best, abs=1e-4)
        assert [entry.logprob for entry in top] == sorted((e.logprob for e in top), reverse=True)
        assert [entry.text for entry in top] == [text_of(entry.token_id) for entry in top]


async def test_without_being_asked_no_logprobs_are_sent(badly_drafting: Stack):
    answer = await generate(badly_drafting.client, request(max_tokens=5))
    assert all(t.logprob is None and t.top_logprobs == () for t in answer.tokens)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_a_model_that_drafts_for_itself_is_never_refuted(self_drafting: Stack, shape):
    answer = await generate(
        self_drafting.client, request(max_tokens=80, num_speculative_tokens=8, **shape)
    )
    speculation = answer.finished.speculation
    assert speculation.num_draft_tokens > 60
    assert speculation.num_accepted_tokens == speculation.num_draft_tokens
    assert {token.origin for token in answer.tokens} == {TokenOrigin.ACCEPTED, TokenOrigin.BONUS}


@dataclass(frozen=True)
class ForgetfulProposer:
    """Broken on purpose: drafts as if one sampling parameter had its default."""

    proposer: ModelProposer
    forgotten: str
    name: str = "forgetful"

    @property
    def info(self) -> ModelInfo:
        return self.proposer.info

    def open(self, opening: SessionOpen) -> ModelSession:
        default = getattr(SamplingParams(), self.forgotten)
        sampling = replace(opening.sampling, **{self.forgotten: default})
        return self.proposer.open(replace(opening, sampling=sampling))

    def load(self) -> TierLoad:
        return self.proposer.load()

    async def close(self) -> None:
        await self.proposer.close()


@pytest.mark.parametrize(
    "forgotten", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"]
)
async def test_the_twin_whose_draft_forgets_a_parameter_is_refuted(
    tiny_target: LoadedModel, forgotten: str
):
    shape = next(shape for shape in SHAPES.values() if forgotten in shape)
    proposer = ForgetfulProposer(tiny_target.proposer(max_support=12), forgotten)
    async with running_stack(tiny_target, proposer) as stack:
        answer = await generate(
            stack.client, request(max_tokens=80, num_speculative_tokens=8, **shape)
        )
    assert answer.finished.speculation.acceptance_rate < 1


def greedy_by_transformers(model: LoadedModel, penalty: float, num_tokens: int) -> Sequence[int]:
    reference = AutoModelForCausalLM.from_pretrained(model.files.folder, dtype=torch.float32)
    sequence = reference.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        do_sample=False,
        repetition_penalty=penalty,
        min_new_tokens=num_tokens,
        max_new_tokens=num_tokens,
        eos_token_id=None,
        pad_token_id=0,
    )
    return sequence[0, len(PROMPT) :].tolist()


@pytest.mark.parametrize("penalty", [0.8, 1.5])
async def test_greedy_output_with_a_repetition_penalty_is_that_of_transformers(
    badly_drafting: Stack, tiny_target: LoadedModel, penalty: float
):
    expected = greedy_by_transformers(tiny_target, penalty, 40)
    assert expected != greedy_by_transformers(tiny_target, 1.0, 40)
    for k in (0, 8):
        answer = await generate(
            badly_drafting.client,
            request(temperature=0, repetition_penalty=penalty, num_speculative_tokens=k),
        )
        assert answer.token_ids == expected
