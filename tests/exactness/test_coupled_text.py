"""The text of a coupled session depends on prompt, parameters, seed and target alone.

Through GenerationService, in fp32: with drafts good and bad and none, and with every K.
`tests/lifecycle/test_coupled_text.py` has the drafts that are late or lost.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.types import VerificationMode
from orchestrator.request.plan import PolicyKind
from tests.exactness import coupled_twins
from tests.stack import MAX_K, Answer, Drafts, LoadedModel, Stack, generate, running_stack

PROMPT = [3, 4, 5, 3, 4]
SEEDS = [0, 7, 2**63 + 1, 2**64 - 1]
PLAIN = GenerationParams(
    max_tokens=32, temperature=1, ignore_eos=True, verification_mode=VerificationMode.COUPLED
)
SHAPES = {
    "temperature 1": PLAIN,
    "temperature 0.7, top-k and top-p": replace(PLAIN, temperature=0.7, top_k=8, top_p=0.9),
    "repetition penalty and min-p": replace(PLAIN, repetition_penalty=1.3, min_p=0.02),
}
# Whoever adds a proposer or a lookup adds it here: the text may not depend on it.
DRAFTS: dict[str, Callable[[LoadedModel, LoadedModel, LoadedModel], Drafts]] = {
    "the target itself": lambda target, draft, features: Drafts(target.proposer()),
    "a bad model": lambda target, draft, features: Drafts(draft.proposer()),
    "lookup": lambda target, draft, features: Drafts(lookups=[target.ngram()]),
    "the most frequent continuation": lambda target, draft, features: Drafts(
        lookups=[target.suffix()]
    ),
    "lookups before a bad model": lambda target, draft, features: Drafts(
        draft.proposer(), [target.suffix(min_match=2), target.counts()]
    ),
    "lookup before counts": lambda target, draft, features: Drafts(
        lookups=[target.suffix(), target.counts()]
    ),
    "a feature draft": lambda target, draft, features: Drafts(features.proposer()),
}


async def answer(stack: Stack, shape: str, seed: int, k: int) -> Answer:
    params = replace(SHAPES[shape], seed=seed, num_speculative_tokens=k)
    return await generate(stack.client, GenerationRequest(PROMPT, params))


async def answers(stack: Stack, shape: str, k: int) -> list[Answer]:
    """One for each seed, side by side: what else is in a pass has no say either."""
    return await asyncio.gather(*(answer(stack, shape, seed, k) for seed in SEEDS))


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "ks",
    [
        pytest.param((1, 3, MAX_K), id="some K"),
        pytest.param(range(1, MAX_K + 1), id="every K", marks=pytest.mark.slow),
    ],
)
async def test_the_text_is_the_same_with_every_draft_and_without(
    *,
    ks: Iterable[int],
    shape: str,
    kind: str,
    tiny_target: LoadedModel,
    tiny_draft: LoadedModel,
    tiny_feature_folder: Path,
) -> None:
    features = tiny_target.feature(tiny_feature_folder)
    drafts = DRAFTS[kind](tiny_target, tiny_draft, features)
    async with running_stack(tiny_target, drafts.model, lookups=drafts.lookups) as stack:
        alone = await answers(stack, shape, 0)
        for drafted in await asyncio.gather(*(answers(stack, shape, k) for k in ks)):
            assert [each.token_ids for each in drafted] == [each.token_ids for each in alone]
            assert [each.text for each in drafted] == [each.text for each in alone]
            assert not any(each.finished.speculation.num_draft_failures for each in drafted)
            assert any(each.finished.speculation.num_draft_tokens for each in drafted)


@pytest.mark.parametrize("policy", PolicyKind)
async def test_the_text_is_the_same_with_every_policy(
    policy: PolicyKind, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    async with running_stack(tiny_target, tiny_draft.proposer(), policy=policy) as stack:
        texts = []
        for k in (0, None):
            params = replace(PLAIN, seed=7, num_speculative_tokens=k)
            texts.append((await generate(stack.client, GenerationRequest(PROMPT, params))).text)
    assert texts[0] == texts[1]


async def test_a_draft_that_is_the_target_is_always_right(tiny_target: LoadedModel) -> None:
    async with running_stack(tiny_target, tiny_target.proposer()) as stack:
        drafted = await answer(stack, "temperature 1", 7, 3)
    assert drafted.finished.speculation.acceptance_rate == 1


async def test_a_bad_draft_is_right_now_and_then(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    """Else the tests above would say little."""
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        drafted = await answer(stack, "temperature 1", 7, 3)
    assert 0.02 < (drafted.finished.speculation.acceptance_rate or 0) < 0.9


async def test_texts_of_different_seeds_differ(tiny_target: LoadedModel) -> None:
    async with running_stack(tiny_target) as stack:
        texts = {each.text for each in await answers(stack, "temperature 1", 0)}
    assert len(texts) == len(SEEDS)


async def test_noise_keyed_by_round_would_make_the_text_depend_on_the_draft(
    monkeypatch: pytest.MonkeyPatch, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    wrong = coupled_twins.by_round_too
    coupled_twins.key_tiers(monkeypatch, draft=wrong, target=wrong)
    judge = coupled_twins.judge_coupled_with(wrong)
    async with running_stack(tiny_target, tiny_draft.proposer(), judge=judge) as stack:
        alone, drafted = [await answer(stack, "temperature 1", 7, k) for k in (0, 3)]
    assert drafted.text != alone.text


async def test_coupled_and_rejection_sampling_say_the_same_at_temperature_0(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    async with running_stack(tiny_target, tiny_draft.proposer()) as stack:
        texts = set()
        for mode in VerificationMode:
            params = replace(PLAIN, temperature=0, verification_mode=mode, seed=1)
            texts.add((await generate(stack.client, GenerationRequest(PROMPT, params))).text)
    assert len(texts) == 1
