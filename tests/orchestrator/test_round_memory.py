"""What a round copies does not grow with the text: one stack, short and long prompts."""

import tracemalloc
from copy import copy
from dataclasses import replace
from statistics import median

import pytest
import torch

from draft_service.model_proposer import ModelProposer
from forethought.engine.batching.engine import EngineLimits
from forethought.engine.model.packed import BLOCK_LEN, PackedPass
from forethought.generation import GenerationParams, GenerationRequest, Step
from forethought.sampling.types import VerificationMode
from tests.stack import LoadedModel, Stack, running_stack

LONG, SHORT = 16_000, 100
NUM_ROUNDS = 12
GROWTH_BYTES = 12_000
"""Less than a copy of the long prompt in any form: of bytes even."""


class InstantModel:
    """A model without a forward pass: what follows depends on the last token alone."""

    vocab_size = 16
    max_model_len = 2 * LONG
    engine_name = "instant"
    dtype_name = "float32"
    device_name = "cpu"
    hidden_size = 0
    kv_bytes_per_block = BLOCK_LEN

    def __init__(self) -> None:
        self._rows = torch.randn(16, 16, generator=torch.Generator().manual_seed(1))

    def allocate(self, num_blocks: int) -> None:
        """Nothing is kept."""

    def forward(self, packed: PackedPass) -> torch.Tensor:
        last = [packed.token_ids[row] for row in packed.logit_rows.tolist()]
        return self._rows[last]


@pytest.fixture
def instant(tiny_target: LoadedModel) -> LoadedModel:
    """With the tiny target's tokenizer."""
    return replace(tiny_target, model=InstantModel())


async def bytes_of_a_round(stack: Stack, num_prompt_tokens: int, **params: object) -> float:
    """Most memory that is taken at a time between two rounds; the median over some rounds."""
    prompt = [2 + place * place % 11 for place in range(num_prompt_tokens)]
    request = GenerationRequest(
        prompt,
        GenerationParams(max_tokens=200, seed=1, ignore_eos=True, **params),
        include_steps=True,
    )
    peaks: list[int] = []
    events = stack.client.generate(request, timeout_s=60)
    tracemalloc.start()
    try:
        async for event in events:
            if isinstance(event, Step):
                before, peak = tracemalloc.get_traced_memory()
                peaks.append(peak - before)
                tracemalloc.reset_peak()
                if len(peaks) > NUM_ROUNDS:
                    break
    finally:
        tracemalloc.stop()
        await events.aclose()
    return median(peaks[2:])


@pytest.mark.parametrize(
    "params",
    [
        {"num_speculative_tokens": 0},
        {"num_speculative_tokens": 3},
        {"num_speculative_tokens": 3, "verification_mode": VerificationMode.COUPLED},
        {"num_speculative_tokens": 3, "repetition_penalty": 1.1},
    ],
    ids=["plain", "drafted", "coupled", "penalised"],
)
async def test_a_round_copies_no_more_of_a_long_text_than_of_a_short_one(instant, params):
    limits = EngineLimits(num_blocks=4 * LONG // BLOCK_LEN)
    proposer = ModelProposer(copy(instant.model), instant.info, 16, 4, limits)
    proposer.num_bets = 1
    async with running_stack(instant, proposer, limits=limits) as stack:
        short, long = [await bytes_of_a_round(stack, num, **params) for num in (SHORT, LONG)]
    assert long < short + GROWTH_BYTES
