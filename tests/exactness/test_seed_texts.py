"""The text of a seed never changes: users write seeds down, and stored sessions hold them."""

from dataclasses import replace

import pytest

from forethought.generation import GenerationParams, GenerationRequest
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import VerificationMode
from tests.stack import LoadedModel, generate, running_stack

PARAMS = GenerationParams(
    max_tokens=40, temperature=1.5, ignore_eos=True, num_speculative_tokens=3, seed=2**63 + 5
)
TEXTS = {
    VerificationMode.REJECTION: "deff ii efhh  iefhiief cbgecbbc b b ",
    VerificationMode.BLOCK: "deff egdgec ece e ccgefgehe aihe b",
    VerificationMode.COUPLED: "fffhacccefi gi fihedecdegbegfcbea",
}
"""Of the tiny target's, with a bad draft."""


async def text_of(target: LoadedModel, draft: LoadedModel, mode: VerificationMode) -> str:
    request = GenerationRequest((3, 4, 5), replace(PARAMS, verification_mode=mode))
    async with running_stack(target, draft.proposer()) as stack:
        return (await generate(stack.client, request)).text


@pytest.mark.parametrize("mode", VerificationMode)
async def test_the_text_of_a_seed_is_the_same_for_ever(
    tiny_target: LoadedModel, tiny_draft: LoadedModel, mode: VerificationMode
):
    assert await text_of(tiny_target, tiny_draft, mode) == TEXTS[mode]


@pytest.mark.parametrize("stream", sorted(set(Stream) - {Stream.COUPLING}))
async def test_every_stream_of_draws_takes_part_in_these_texts(
    tiny_target: LoadedModel, tiny_draft: LoadedModel, monkeypatch, stream: Stream
):
    draw = KeyedRandomness.uniform

    def renumbered(self: KeyedRandomness, of: Stream, position: int) -> float:
        return draw(self, 77 if of is stream else of, position)

    monkeypatch.setattr(KeyedRandomness, "uniform", renumbered)
    for mode in (VerificationMode.REJECTION, VerificationMode.BLOCK):
        assert await text_of(tiny_target, tiny_draft, mode) != TEXTS[mode]
