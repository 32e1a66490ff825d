"""Requests become plans: defaults are filled in, limits kept, and every wrong field is named."""

import math
from dataclasses import replace

import numpy as np
import pytest

from forethought.errors import InvalidArgumentError
from forethought.generation import ChatMessage, GenerationParams, GenerationRequest
from forethought.models.generation_defaults import GenerationDefaults
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from orchestrator.request.plan import DEFAULT_MAX_TOKENS, Deployment, plan_generation
from tests.stack import LoadedModel
from tests.tiny import EOS_ID, UNK_ID

A, B, C = 3, 4, 5


@pytest.fixture
def deployment(tiny_target: LoadedModel) -> Deployment:
    return Deployment(tiny_target.tokenizer, tiny_target.info, 3, 8)


def violations(deployment: Deployment, request: GenerationRequest) -> set[str]:
    with pytest.raises(InvalidArgumentError) as refused:
        plan_generation(request, deployment)
    return set(refused.value.violations)


def test_what_a_request_leaves_open_is_the_deployments_choice(deployment):
    plan = plan_generation(GenerationRequest("abc"), deployment)
    assert plan.prompt_token_ids == (A, B, C)
    assert plan.sampling == SamplingParams(seed=plan.sampling.seed)
    assert plan.max_tokens == min(DEFAULT_MAX_TOKENS, deployment.target.max_model_len - 3)
    assert plan.stops == ()
    assert plan.stop_token_ids == {EOS_ID}
    assert plan.num_logprobs is None
    assert plan.num_speculative_tokens == 3
    assert plan.mode is VerificationMode.REJECTION
    assert plan.tenant == ""
    assert not plan.include_steps


def test_what_a_request_leaves_open_is_the_models_own_and_what_it_says_is_kept(deployment):
    own = GenerationDefaults(0.7, 20, 0.8, 0.1, 1.05, max_tokens=9)
    suggested = replace(deployment, defaults=own)
    plan = plan_generation(GenerationRequest("abc", GenerationParams(seed=1)), suggested)
    assert plan.sampling == SamplingParams(0.7, 20, 0.8, 0.1, 1.05, seed=1)
    assert plan.max_tokens == 9
    said = GenerationParams(20, 1.0, 0, 1.0, 0.0, 1.0, seed=1)
    plan = plan_generation(GenerationRequest("abc", said), suggested)
    assert (plan.sampling, plan.max_tokens) == (SamplingParams(seed=1), 20)


def test_a_deployment_chooses_the_mode_where_a_request_does_not(deployment):
    coupled = replace(deployment, default_mode=VerificationMode.COUPLED)
    assert plan_generation(GenerationRequest("abc"), coupled).mode is VerificationMode.COUPLED
    params = GenerationParams(verification_mode=VerificationMode.BLOCK)
    request = GenerationRequest("abc", params, tenant="a")
    plan = plan_generation(request, coupled)
    assert (plan.mode, plan.tenant) == (VerificationMode.BLOCK, "a")


def test_the_default_of_max_tokens_holds_where_the_model_has_room(deployment):
    target = replace(deployment.target, max_model_len=DEFAULT_MAX_TOKENS + 4)
    roomy = replace(deployment, target=target)
    assert plan_generation(GenerationRequest("abc"), roomy).max_tokens == DEFAULT_MAX_TOKENS
    assert plan_generation(GenerationRequest("abcabc"), roomy).max_tokens == DEFAULT_MAX_TOKENS - 2


def test_what_a_request_says_is_taken(deployment):
    params = GenerationParams(
        max_tokens=7,
        temperature=0.5,
        top_k=3,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.2,
        seed=2**64 - 1,
        stop=["x", "yz"],
        stop_token_ids=[A],
        logprobs=0,
        num_speculative_tokens=0,
    )
    plan = plan_generation(GenerationRequest([A], params, "mine", include_steps=True), deployment)
    assert plan.request_id == "mine"
    assert plan.sampling == SamplingParams(0.5, 3, 0.9, 0.1, 1.2, 2**64 - 1)
    assert plan.max_tokens == 7
    assert plan.stops == ("x", "yz")
    assert plan.stop_token_ids == {A, EOS_ID}
    assert plan.num_logprobs == 0
    assert plan.num_speculative_tokens == 0
    assert plan.include_steps


def test_seeds_that_nobody_chose_differ(deployment):
    seeds = {plan_generation(GenerationRequest("a"), deployment).sampling.seed for _ in range(8)}
    assert len(seeds) == 8


def test_end_tokens_can_be_ignored_and_asked_for_again(deployment):
    ignoring = GenerationParams(ignore_eos=True)
    plan = plan_generation(GenerationRequest("a", ignoring), deployment)
    assert plan.stop_token_ids == frozenset()
    asking = replace(ignoring, stop_token_ids=[EOS_ID])
    assert plan_generation(GenerationRequest("a", asking), deployment).stop_token_ids == {EOS_ID}


@pytest.mark.parametrize(
    ("prompt", "token_ids"),
    [
        ("ab", (A, B)),
        ("a?", (A, UNK_ID)),
        ([C, EOS_ID, B], (C, EOS_ID, B)),
        ((C,), (C,)),
        ([np.int64(C), B], (C, B)),
        ([ChatMessage("user", "a"), ChatMessage("assistant", "b")], (A, EOS_ID, B, EOS_ID)),
    ],
)
def test_a_prompt_may_be_text_tokens_or_a_conversation(deployment, prompt, token_ids):
    assert plan_generation(GenerationRequest(prompt), deployment).prompt_token_ids == token_ids


@pytest.mark.parametrize(
    ("prompt", "field"),
    [
        ("", "prompt.text"),
        ([], "prompt.token_ids"),
        ("a" * 256, "prompt.text"),
        ([A] * 256, "prompt.token_ids"),
        ([A, 12], "prompt.token_ids"),
        ([ChatMessage("user", "a" * 300)], "prompt.conversation"),
        ([A, -1], "prompt.token_ids"),
        ([A, "b"], "prompt.token_ids"),
        ([A, 1.0], "prompt.token_ids"),
        ([A, ChatMessage("user", "a")], "prompt"),
    ],
)
def test_a_prompt_that_is_empty_too_long_or_unknown_is_refused(deployment, prompt, field):
    assert violations(deployment, GenerationRequest(prompt)) == {field}


@pytest.mark.parametrize(
    ("field", "best", "worse"),
    [
        ("max_tokens", 1, 0),
        ("max_tokens", 255, 256),
        ("temperature", 100.0, 100.1),
        ("temperature", 0.0, -0.1),
        ("temperature", 1.0, math.nan),
        ("temperature", 1.0, math.inf),
        ("top_k", 2**32 - 1, -1),
        ("top_p", 1e-9, 0.0),
        ("top_p", 1.0, 1.01),
        ("min_p", 1.0, 1.01),
        ("min_p", 0.0, -0.01),
        ("repetition_penalty", 100.0, 101.0),
        ("repetition_penalty", 0.01, 0.0),
        ("repetition_penalty", 0.01, 0.0099),
        ("seed", 2**64 - 1, 2**64),
        ("stop", ["x"] * 16, ["x"] * 17),
        ("stop", ["x" * 256], ["x" * 257]),
        ("stop", ["x"], ["x", ""]),
        ("stop", ["###"], "###"),
        ("stop_token_ids", [11] * 64, [1] * 65),
        ("stop_token_ids", [11], [12]),
        ("logprobs", 20, 21),
        ("num_speculative_tokens", 8, 9),
    ],
)
def test_a_limit_can_be_reached_and_not_passed(deployment, field, best, worse):
    plan_generation(GenerationRequest([A], GenerationParams(**{field: best})), deployment)
    wrong = GenerationRequest([A], GenerationParams(**{field: worse}))
    assert violations(deployment, wrong) == {f"params.{field}"}


def test_all_wrong_fields_are_named_at_once(deployment):
    params = GenerationParams(
        max_tokens=0, top_p=2, temperature=-1, stop=[""], logprobs=99, num_speculative_tokens=99
    )
    assert violations(deployment, GenerationRequest("a", params, request_id="x" * 129)) == {
        "request_id",
        "params.max_tokens",
        "params.top_p",
        "params.temperature",
        "params.stop",
        "params.logprobs",
        "params.num_speculative_tokens",
    }
