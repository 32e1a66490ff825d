"""The checks of `test_sampled_modes.py` reject each broken twin, through the same stack."""

from collections import Counter
from functools import partial

import pytest

from forethought.sampling.coupled import judge_coupled
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from tests.exactness import block_twins, coupled_twins
from tests.exactness.pairs import (
    BLOCK_PROMPT,
    PROMPT,
    Sampling,
    memoized_stack,
    sample_by_seeds,
    sample_pairs,
)
from tests.exactness.sampling_check import ALPHA, is_rejected, p_value, pair_distribution
from tests.exactness.test_sampled_modes import BLOCK_SAMPLES
from tests.exactness.twins import Judge
from tests.stack import LoadedModel

PARAMS = SamplingParams(temperature=1)

BLOCK_TWINS = {
    "guess by guess with block's residual": (BLOCK_PROMPT, block_twins.guess_by_guess),
    "weights above one": (PROMPT, block_twins.uncapped_weight),
    "residual without the weight": (PROMPT, block_twins.plain_residual),
    "first beginning instead of the longest": (PROMPT, block_twins.shortest_kept),
    "kept wherever anything is left": (PROMPT, block_twins.kept_where_anything_is_left),
}


@pytest.mark.parametrize("twin", BLOCK_TWINS)
async def test_a_broken_judge_of_blocks_is_rejected_by_the_same_check(
    twin: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    prompt, judge = BLOCK_TWINS[twin]
    sampling = Sampling(PARAMS, judge, VerificationMode.BLOCK, prompt)
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):
        draw = partial(sample_pairs, stack, sampling)
        expected = pair_distribution(model, prompt, PARAMS)
        assert await is_rejected(draw, expected, BLOCK_SAMPLES)


class TestCoupled:
    NUM_SAMPLES = 600

    async def p_value(self, target: LoadedModel, draft: LoadedModel, judge: Judge) -> float:
        sampling = Sampling(PARAMS, judge, VerificationMode.COUPLED)
        async with memoized_stack(target, draft) as (stack, model):
            samples = await sample_by_seeds(stack, sampling, range(self.NUM_SAMPLES))
            expected = pair_distribution(model, PROMPT, PARAMS)
        return p_value(Counter(sample.pair for sample in samples), expected)

    async def test_a_judge_that_accepts_always_is_rejected(
        self, tiny_target: LoadedModel, tiny_draft: LoadedModel
    ) -> None:
        accepting = coupled_twins.accept_always
        assert await self.p_value(tiny_target, tiny_draft, accepting) < ALPHA

    async def test_tail_tokens_by_inversion_are_rejected(
        self, monkeypatch: pytest.MonkeyPatch, tiny_target: LoadedModel, tiny_draft: LoadedModel
    ) -> None:
        measure = coupled_twins.tail_by_inversion
        monkeypatch.setattr("target_service.verifier.measure_coupled", measure)
        assert await self.p_value(tiny_target, tiny_draft, judge_coupled) < ALPHA

    async def test_noise_that_is_not_keyed_by_position_is_rejected(
        self, monkeypatch: pytest.MonkeyPatch, tiny_target: LoadedModel, tiny_draft: LoadedModel
    ) -> None:
        wrong = coupled_twins.not_by_position
        coupled_twins.key_tiers(monkeypatch, draft=wrong, target=wrong)
        judge = coupled_twins.judge_coupled_with(wrong)
        assert await self.p_value(tiny_target, tiny_draft, judge) < ALPHA

    async def test_a_draft_with_noise_of_its_own_is_not_to_blame(
        self, monkeypatch: pytest.MonkeyPatch, tiny_target: LoadedModel, tiny_draft: LoadedModel
    ) -> None:
        other, right = coupled_twins.of_another_seed, coupled_twins.right_key
        coupled_twins.key_tiers(monkeypatch, draft=other, target=right)
        assert await self.p_value(tiny_target, tiny_draft, judge_coupled) > ALPHA
