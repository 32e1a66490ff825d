"""A draft that guesses from the target's hidden states leaves the target's distribution as it is.

Through a running deployment: greedy text token for token, and pairs of tokens in all modes. That
the check of pairs notices mistakes, `test_broken_twins.py` and `test_broken_modes.py` show.
"""

from collections import Counter
from pathlib import Path

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.block import judge_block
from forethought.sampling.coupled import judge_coupled
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import VerificationMode
from tests.exactness.pairs import (
    PROMPT,
    Sampling,
    remembering_stack,
    sample_by_rounds,
    sample_by_seeds,
)
from tests.exactness.sampling_check import ALPHA, p_value, pair_distribution
from tests.exactness.test_greedy import PROMPTS
from tests.exactness.test_sampled_distribution import ALL_AT_ONCE
from tests.stack import LoadedModel, generate, running_stack

FEW_SAMPLES, NUM_SAMPLES = 600, 8_000
SHAPES = {"temperature 1": SamplingParams(temperature=1), "all at once": ALL_AT_ONCE}
JUDGES = {
    VerificationMode.REJECTION: judge,
    VerificationMode.BLOCK: judge_block,
    VerificationMode.COUPLED: judge_coupled,
}


@pytest.mark.parametrize("kind", ["alone", "behind lookups"])
async def test_greedy_text_is_that_of_plain_decoding(
    kind: str, tiny_target: LoadedModel, tiny_feature_folder: Path
):
    proposer = tiny_target.feature(tiny_feature_folder).proposer()
    proposer.min_prob = 0.2
    lookups = [tiny_target.suffix(min_match=3)] if kind == "behind lookups" else []
    async with running_stack(tiny_target, proposer, lookups=lookups) as stack:
        for prompt in PROMPTS[2::6]:
            texts = []
            for k in (0, 1, 5):
                params = GenerationParams(
                    max_tokens=40, temperature=0, num_speculative_tokens=k, ignore_eos=True
                )
                answer = await generate(stack.client, GenerationRequest(prompt, params))
                texts.append(answer.token_ids)
                assert answer.finished.speculation.num_draft_failures == 0
                assert bool(answer.finished.speculation.num_draft_tokens) == bool(k)
            assert texts[1:] == texts[:1] * 2


async def pairs_are_the_targets(
    mode: VerificationMode, shape: str, target: LoadedModel, draft_folder: Path, num_samples: int
) -> None:
    sampling = Sampling(SHAPES[shape], JUDGES[mode], mode)
    async with remembering_stack(target, target.feature(draft_folder).proposer()) as (stack, model):
        if mode is VerificationMode.COUPLED:
            samples = await sample_by_seeds(stack, sampling, range(num_samples // 2))
        else:
            samples = await sample_by_rounds(stack, sampling, range(num_samples))
        expected = pair_distribution(model, PROMPT, SHAPES[shape])
    assert p_value(Counter(sample.pair for sample in samples), expected) > ALPHA
    # It guessed, and was right at times.
    assert 0.02 < sum(sample.num_accepted_tokens for sample in samples) / len(samples) < 2


@pytest.mark.parametrize("mode", VerificationMode)
async def test_pairs_are_distributed_as_the_target_says(
    mode: VerificationMode, tiny_target: LoadedModel, tiny_feature_folder: Path
):
    await pairs_are_the_targets(
        mode, "temperature 1", tiny_target, tiny_feature_folder, FEW_SAMPLES
    )


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", VerificationMode)
async def test_many_pairs_of_all_shapes_are_distributed_as_the_target_says(
    mode: VerificationMode, shape: str, tiny_target: LoadedModel, tiny_feature_folder: Path
):
    await pairs_are_the_targets(mode, shape, tiny_target, tiny_feature_folder, NUM_SAMPLES)
