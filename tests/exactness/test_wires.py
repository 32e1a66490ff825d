"""Pairs of tokens are sampled within the process; over gRPC each sample is the same.

So what the checks of their distribution say holds over gRPC as well.
"""

from dataclasses import replace

import pytest

from forethought.sampling.judges import JUDGES
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from tests.exactness.pairs import Sampling, memoized_stack, sample_by_rounds, sample_by_seeds
from tests.stack import LoadedModel

NUM_SAMPLES = 200


@pytest.mark.parametrize(
    ("sample", "mode"),
    [
        (sample_by_rounds, VerificationMode.REJECTION),
        (sample_by_rounds, VerificationMode.BLOCK),
        (sample_by_seeds, VerificationMode.COUPLED),
    ],
)
async def test_samples_over_grpc_are_those_within_the_process(
    sample, mode: VerificationMode, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    within = Sampling(SamplingParams(temperature=1), JUDGES[mode], mode)
    async with memoized_stack(tiny_target, tiny_draft) as (stack, _):
        wires = [
            await sample(stack, sampling, range(NUM_SAMPLES))
            for sampling in (within, replace(within, over_grpc=True))
        ]
    assert wires[0] == wires[1]
    assert len({each.pair for each in wires[0]}) > 20
