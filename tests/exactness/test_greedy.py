"""At temperature 0 the stack says what `transformers` says, token for token.

Prompts short and long; a draft that is good (the target itself), one that is bad (other weights,
never right but by chance), lookup of both kinds, and lookup before a model or counts. SmolLM2 has
the same check in `test_smollm2.py`.
"""

import asyncio
from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM

from forethought.generation import GenerationParams, GenerationRequest
from tests.stack import Drafts, LoadedModel, generate, running_stack

NUM_TOKENS = 64
PROMPTS = [[2 + (7 * i + j * j * (i + 3)) % 10 for j in range(1 + i * i // 2)] for i in range(20)]
"""1 to 181 tokens."""

DRAFTS: dict[str, Callable[[LoadedModel, LoadedModel], Drafts]] = {
    "a model that is always right": lambda target, draft: Drafts(target.proposer()),
    "a model that is bad": lambda target, draft: Drafts(draft.proposer()),
    "lookup": lambda target, draft: Drafts(lookups=[target.ngram()]),
    "the most frequent continuation": lambda target, draft: Drafts(lookups=[target.suffix()]),
    "lookup before a bad model": lambda target, draft: Drafts(
        draft.proposer(), [target.suffix(min_match=2)]
    ),
    "lookup before counts": lambda target, draft: Drafts(
        lookups=[target.suffix(), target.counts()]
    ),
}


@pytest.fixture(scope="module")
def greedy_outputs(tiny_target: LoadedModel) -> list[list[int]]:
    model = AutoModelForCausalLM.from_pretrained(tiny_target.files.folder, dtype=torch.float32)
    outputs = []
    for prompt in PROMPTS:
        sequence = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            min_new_tokens=NUM_TOKENS,
            max_new_tokens=NUM_TOKENS,
            eos_token_id=None,
            pad_token_id=0,
        )
        outputs.append(sequence[0, len(prompt) :].tolist())
    return outputs


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("k", [0, 1, 3, 5])
@pytest.mark.parametrize(
    ("places", "num_tokens"),
    [
        pytest.param(range(1, 20, 2), 48, id="every other"),
        pytest.param(range(20), NUM_TOKENS, id="all", marks=pytest.mark.slow),
    ],
)
async def test_output_equals_greedy_generation_by_transformers(
    *,
    kind: str,
    k: int,
    places: range,
    num_tokens: int,
    tiny_target: LoadedModel,
    tiny_draft: LoadedModel,
    greedy_outputs: list[list[int]],
) -> None:
    params = GenerationParams(
        max_tokens=num_tokens, temperature=0, num_speculative_tokens=k, ignore_eos=True
    )
    drafts = DRAFTS[kind](tiny_target, tiny_draft)
    async with running_stack(tiny_target, drafts.model, lookups=drafts.lookups) as stack:
        # Side by side: what else is in a pass has no say either.
        requests = [GenerationRequest(PROMPTS[place], params) for place in places]
        answers = await asyncio.gather(*(generate(stack.client, each) for each in requests))
        for place, answer in zip(places, answers, strict=True):
            assert answer.token_ids == greedy_outputs[place][:num_tokens]
            assert answer.finished.speculation.num_draft_failures == 0
            if k == 0:
                assert answer.finished.speculation.num_draft_tokens == 0
