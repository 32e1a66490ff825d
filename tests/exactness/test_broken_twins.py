"""The check of `test_sampled_distribution.py` rejects each broken twin, through the same stack."""

from copy import copy
from dataclasses import replace
from functools import partial

import pytest

from draft_service.model_proposer import ModelProposer, ModelSession
from draft_service.proposer import SessionProposer
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import Draft, DraftedToken
from forethought.tier import ModelInfo, RoundTimings, SessionOpen, SpeculateRound, TierLoad
from tests.exactness import twins
from tests.exactness.pairs import PROMPT, Sampling, memoized_stack, sample_pairs
from tests.exactness.sampling_check import is_rejected, pair_distribution
from tests.stack import LIMITS, LoadedModel

NUM_SAMPLES = 2_000
"""As many as the real thing is tested with. Each twin is caught with a fifth of them."""
PARAMS = SamplingParams(temperature=1)


JUDGE_TWINS = {
    "accepts always": twins.always_accept,
    "residual without the clip": twins.unclipped_residual,
    "p and q swapped": twins.swapped_accept_test,
    "residual noise shared with the draft": twins.residual_noise_shared_with_draft,
}


@pytest.mark.parametrize("twin", JUDGE_TWINS)
async def test_a_broken_judge_is_rejected_by_the_same_check(
    twin: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):
        draw = partial(sample_pairs, stack, Sampling(PARAMS, JUDGE_TWINS[twin]))
        expected = pair_distribution(model, PROMPT, PARAMS)
        assert await is_rejected(draw, expected, NUM_SAMPLES)


class UntruncatedReport:
    """A draft tier that draws from the truncated distribution and reports the whole one.

    Scaling q alone would not do: the orchestrator divides it by its sum.
    """

    def __init__(self, proposer: ModelProposer) -> None:
        self._proposer = proposer
        self._whole = ModelProposer(
            copy(proposer.engine._model), proposer.info, proposer.info.vocab_size, 256, LIMITS
        )
        self.name = proposer.name
        self.info: ModelInfo = proposer.info

    def open(self, opening: SessionOpen) -> SessionProposer:
        return UntruncatedSession(self._proposer.open(opening), self._whole.open(opening))

    def load(self) -> TierLoad:
        return self._proposer.load()

    async def close(self) -> None:
        await self._proposer.close()
        await self._whole.close()


class UntruncatedSession:
    """Two sessions side by side: one draws, the other says what was before truncation."""

    num_reused_tokens = 0

    def __init__(self, drawing: ModelSession, whole: ModelSession) -> None:
        self._drawing = drawing
        self._whole = whole

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        drawn, timings = await self._drawing.propose(request)
        tokens: list[DraftedToken] = []
        for offset, drafted in enumerate(drawn.tokens):
            before = [token.token_id for token in tokens]
            committed = [*request.committed_token_ids, *before]
            draft, _ = await self._whole.propose(
                SpeculateRound(request.round, request.position + offset, committed, 1)
            )
            tokens.append(replace(draft.tokens[0], token_id=drafted.token_id))
        return Draft(tuple(tokens)), timings

    def close(self) -> None:
        self._drawing.close()
        self._whole.close()


async def test_q_reported_untruncated_while_drawn_truncated_is_rejected_by_the_same_check(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    async with memoized_stack(tiny_target, tiny_draft, UntruncatedReport) as (stack, model):
        draw = partial(sample_pairs, stack, Sampling(PARAMS, judge))
        expected = pair_distribution(model, PROMPT, PARAMS)
        assert await is_rejected(draw, expected, NUM_SAMPLES)
