"""A draft with another tokenizer leaves the output exact, through the running stack.

The target's twelve tokens are single characters. The translated draft has most of them, in another
order, and tokens of several characters beside them; what the two do not share it cannot guess.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from draft_service.proposer import Proposer
from draft_service.translated_proposer import TranslatedProposer
from forethought.errors import VocabularyMismatchError
from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import Draft, DraftedToken, VerificationMode
from forethought.tier import RoundTimings, SessionOpen, SpeculateRound
from tests.exactness.memoized import MemoizedModel
from tests.exactness.pairs import MAX_SUPPORT, PROMPT, Sampling, sample_pairs
from tests.exactness.sampling_check import ALPHA, is_rejected, p_value, pair_distribution
from tests.stack import LoadedModel, Stack, generate, loaded, running_stack
from tests.tiny import OVERLAPPING_TOKENS, write_permuted_copy, write_tiny_model

NUM_SAMPLES, MANY_SAMPLES = 2_000, 20_000
PROMPTS = [[2 + (7 * i + j * j * (i + 3)) % 10 for j in range(1 + i * i // 2)] for i in range(20)]
"""1 to 181 tokens."""
SHAPES = {
    "temperature 1": SamplingParams(temperature=1),
    "top-k, top-p and min-p": SamplingParams(temperature=0.7, top_k=8, top_p=0.95, min_p=0.02),
    "penalty": SamplingParams(temperature=1, repetition_penalty=1.3),
}


@pytest.fixture(scope="module")
def other_draft(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("translated") / "draft"
    return loaded(write_tiny_model(folder, tokens=OVERLAPPING_TOKENS, seed=2))


@pytest.fixture(scope="module")
def permuted(tmp_path_factory: pytest.TempPathFactory, tiny_target: LoadedModel) -> LoadedModel:
    folder = tmp_path_factory.mktemp("translated") / "permuted"
    return loaded(write_permuted_copy(folder, Path(tiny_target.files.folder)))


@asynccontextmanager
async def translated_stack(
    target: LoadedModel, draft: LoadedModel, kind: type["TranslatedTwin"] | None = None
) -> AsyncIterator[tuple[Stack, MemoizedModel]]:
    remembering = MemoizedModel(target.model)
    own = replace(draft, model=MemoizedModel(draft.model))
    proposer: Proposer = own.translated(target.tokenizer, MAX_SUPPORT)
    if kind is not None:
        proposer = kind(proposer)
    async with running_stack(replace(target, model=remembering), proposer) as stack:
        yield stack, remembering


async def pairs_are_the_targets(
    shape: str, target: LoadedModel, draft: LoadedModel, num_samples: int
) -> None:
    params = SHAPES[shape]
    async with translated_stack(target, draft) as (stack, model):
        pairs = await sample_pairs(stack, Sampling(params, judge), range(num_samples))
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) > ALPHA


@pytest.mark.parametrize("shape", SHAPES)
async def test_pairs_of_tokens_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, other_draft: LoadedModel
) -> None:
    await pairs_are_the_targets(shape, tiny_target, other_draft, NUM_SAMPLES)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", SHAPES)
async def test_many_pairs_of_tokens_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, other_draft: LoadedModel
) -> None:
    await pairs_are_the_targets(shape, tiny_target, other_draft, MANY_SAMPLES)


@pytest.mark.parametrize("k", [1, 3, 5])
async def test_greedy_output_is_that_of_the_target_alone(
    k: int, tiny_target: LoadedModel, other_draft: LoadedModel
) -> None:
    async with running_stack(tiny_target, other_draft.translated(tiny_target.tokenizer)) as stack:
        answers = [
            await asyncio.gather(
                *(generate(stack.client, GenerationRequest(p, greedy(num))) for p in PROMPTS)
            )
            for num in (0, k)
        ]
        for alone, drafted in zip(*answers, strict=True):
            assert drafted.token_ids == alone.token_ids
            assert drafted.finished.speculation.num_draft_failures == 0
            assert drafted.finished.speculation.num_draft_tokens > 0


async def test_the_target_with_other_ids_for_its_tokens_is_always_right(
    tiny_target: LoadedModel, permuted: LoadedModel
) -> None:
    async with running_stack(tiny_target, permuted.translated(tiny_target.tokenizer)) as stack:
        for prompt in PROMPTS:
            answer = await generate(stack.client, GenerationRequest(prompt, greedy(3)))
            assert answer.finished.speculation.num_draft_failures == 0
            assert answer.finished.speculation.acceptance_rate == 1


async def test_shared_noise_belongs_to_the_targets_ids(
    tiny_target: LoadedModel, permuted: LoadedModel
) -> None:
    """Else a draft that knows p would choose other tokens than the target."""
    params = replace(greedy(3), temperature=1, seed=5, verification_mode=VerificationMode.COUPLED)
    async with running_stack(tiny_target, permuted.translated(tiny_target.tokenizer)) as stack:
        for prompt in PROMPTS[:8]:
            answer = await generate(stack.client, GenerationRequest(prompt, params))
            assert answer.finished.speculation.num_draft_tokens > 0
            assert answer.finished.speculation.acceptance_rate == 1


async def test_without_translation_another_vocabulary_is_refused(
    tiny_target: LoadedModel, permuted: LoadedModel
) -> None:
    async with running_stack(tiny_target, permuted.proposer()) as stack:
        with pytest.raises(VocabularyMismatchError):
            await generate(stack.client, GenerationRequest(PROMPT, greedy(3)))


def greedy(k: int) -> GenerationParams:
    return GenerationParams(max_tokens=48, temperature=0, num_speculative_tokens=k, ignore_eos=True)


class TranslatedTwin:
    """A translated draft that says something wrong of its guesses."""

    def __init__(self, proposer: TranslatedProposer) -> None:
        self._proposer = proposer
        self.name, self.info = proposer.name, proposer.info
        self.load, self.close = proposer.load, proposer.close

    def open(self, opening: SessionOpen) -> "TwinSession":
        return TwinSession(self, self._proposer.open(opening))

    def falsified(self, token: DraftedToken) -> DraftedToken:
        raise NotImplementedError


class TwinSession:
    """A session whose guesses are falsified on their way out."""

    num_reused_tokens = 0

    def __init__(self, twin: TranslatedTwin, session) -> None:
        self._twin = twin
        self._session = session
        self.close = session.close

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        draft, timings = await self._session.propose(request)
        return Draft(tuple(self._twin.falsified(token) for token in draft.tokens)), timings


class WrongIds(TranslatedTwin):
    """Maps the guess to the next token of the support, and not the distribution."""

    def falsified(self, token: DraftedToken) -> DraftedToken:
        support = token.support_token_ids
        place = (support.index(token.token_id) + 1) % len(support)
        return replace(token, token_id=support[place])


class LostMass(TranslatedTwin):
    """Reports q without normalising it over what both vocabularies hold.

    The orchestrator divides q by its sum, so the mass outside shows as a token that is never drawn.
    """

    def falsified(self, token: DraftedToken) -> DraftedToken:
        other = next(i for i in range(2, 12) if i not in token.support_token_ids)
        return DraftedToken(
            token.token_id,
            [*token.support_token_ids, other],
            np.append(0.6 * token.draft_probs, 0.4),
        )


@pytest.mark.parametrize("twin", [WrongIds, LostMass])
async def test_a_broken_translation_is_rejected_by_the_same_check(
    twin: type[TranslatedTwin], tiny_target: LoadedModel, other_draft: LoadedModel
) -> None:
    params = SHAPES["temperature 1"]
    async with translated_stack(tiny_target, other_draft, twin) as (stack, model):
        draw = partial(sample_pairs, stack, Sampling(params, judge))
        expected = pair_distribution(model, PROMPT, params)
        assert await is_rejected(draw, expected, NUM_SAMPLES)
