"""Samples drawn through running gRPC servers are distributed as the target says.

Draft and target are tiny random models behind their real servers; speculation, verification and
rejection sampling run as in production, with K = 3. Every sample is the joint outcome of two
tokens. The same check must reject each broken twin.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from draft_service.model_proposer import ModelProposer, ModelSession
from draft_service.proposer import SessionProposer
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import Draft
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound
from orchestrator.decode_loop import DecodingStrategy, Judge, decode
from orchestrator.remote_proposer import DraftPatience, RemoteProposer
from orchestrator.remote_verifier import RemoteVerifier
from orchestrator.session import Session
from tests.exactness import twins
from tests.exactness.memoized import MemoizedModel
from tests.exactness.sampling_check import ALPHA, p_value, pair_distribution
from tests.stack import LoadedModel, Stack, running_stack

NUM_SAMPLES = 20_000
NUM_TWIN_SAMPLES = 4_000
"""A fifth is enough to see each mistake, so the check on the real thing has power to spare."""
PROMPT = (8, 2, 2, 6, 11)
"""After these tokens q and p differ so much that even shared noise shows, the subtlest mistake."""
K = 3
MAX_SUPPORT = 4  # of 12 tokens: q is truncated, p has a tail
ROUNDS_PER_SAMPLE = 2

SHAPES = {
    "temperature 1": SamplingParams(temperature=1),
    "temperature 0.7": SamplingParams(temperature=0.7),
    "top-k": SamplingParams(temperature=1, top_k=5),
    "top-p": SamplingParams(temperature=1, top_p=0.8),
    "min-p": SamplingParams(temperature=0.7, min_p=0.1),
    "all at once": SamplingParams(
        temperature=0.7, top_k=8, top_p=0.95, min_p=0.02, repetition_penalty=1.3
    ),
}


@dataclass(frozen=True)
class AlwaysSpeculate:
    """K in every round, the first included."""

    def num_speculative_tokens(self, session: Session) -> int:
        return K


@asynccontextmanager
async def memoized_stack(
    target: LoadedModel,
    draft: LoadedModel,
    make_proposer: Callable[[ModelProposer], object] = lambda proposer: proposer,
    judge: Judge = judge,
) -> AsyncIterator[tuple[Stack, MemoizedModel]]:
    remembering = MemoizedModel(target.model)
    proposer = replace(draft, model=MemoizedModel(draft.model)).proposer(MAX_SUPPORT)
    async with running_stack(
        replace(target, model=remembering), make_proposer(proposer), judge=judge
    ) as stack:
        yield stack, remembering


async def sample_pairs(
    stack: Stack, params: SamplingParams, judge: Judge, num_samples: int
) -> Counter[tuple[int, int]]:
    """Draws pairs on one stream a tier: every sample rewinds to the prompt and takes new rounds."""
    vocabulary = stack.deployment.tokenizer.fingerprint
    patience = DraftPatience(open_s=10, round_s=60)
    proposer = RemoteProposer(stack.draft_stub, vocabulary, patience=patience)
    verifier = RemoteVerifier(stack.target_stub, vocabulary)
    strategy = DecodingStrategy(proposer, verifier, judge, AlwaysSpeculate())
    start = Session("pairs", PROMPT, max_len=len(PROMPT) + K + 1, sampling=params)
    await proposer.start(start)
    pairs: Counter[tuple[int, int]] = Counter()
    try:
        for index in range(num_samples):
            session = replace(start, round=index * ROUNDS_PER_SAMPLE)
            token_ids: list[int] = []
            async for judged in decode(session, strategy):
                token_ids += [token.token_id for token in judged.outcome.tokens]
                if len(token_ids) >= 2:
                    break
            pairs[token_ids[0], token_ids[1]] += 1
    finally:
        proposer.close()
        verifier.close()
    assert proposer.num_failures == 0
    return pairs


@pytest.mark.parametrize("shape", SHAPES)
async def test_pairs_of_tokens_are_distributed_as_the_target_says(
    shape: str, tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    params = SHAPES[shape]
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):
        pairs = await sample_pairs(stack, params, judge, NUM_SAMPLES)
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) > ALPHA


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
    params = SHAPES["temperature 1"]
    async with memoized_stack(tiny_target, tiny_draft) as (stack, model):
        pairs = await sample_pairs(stack, params, JUDGE_TWINS[twin], NUM_TWIN_SAMPLES)
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) < ALPHA


class UntruncatedReport:
    """A draft tier that draws from the truncated distribution and reports the whole one.

    Scaling q alone would not do: the orchestrator divides it by its sum.
    """

    def __init__(self, proposer: ModelProposer) -> None:
        self._proposer = proposer
        self._whole = replace(proposer, max_support=256)
        self.name = proposer.name
        self.info: ModelInfo = proposer.info

    def open(self, opening: SessionOpen) -> SessionProposer:
        return UntruncatedSession(self._proposer.open(opening), self._whole.open(opening))


class UntruncatedSession:
    """Two sessions side by side: one draws, the other says what was before truncation."""

    def __init__(self, drawing: ModelSession, whole: ModelSession) -> None:
        self._drawing = drawing
        self._whole = whole
        self.num_cached_tokens = 0

    def prefill(self, max_tokens: int) -> bool:
        return False

    def release(self) -> None:
        self._drawing.release()

    def propose(self, request: SpeculateRound) -> Draft:
        tokens = []
        for offset, drafted in enumerate(self._drawing.propose(request).tokens):
            before = [token.token_id for token in tokens]
            committed = [*request.committed_token_ids, *before]
            whole = self._whole.propose(
                SpeculateRound(request.round, request.position + offset, committed, 1)
            ).tokens[0]
            tokens.append(replace(whole, token_id=drafted.token_id))
        return Draft(tuple(tokens))


async def test_q_reported_untruncated_while_drawn_truncated_is_rejected_by_the_same_check(
    tiny_target: LoadedModel, tiny_draft: LoadedModel
) -> None:
    params = SHAPES["temperature 1"]
    async with memoized_stack(tiny_target, tiny_draft, UntruncatedReport) as (stack, model):
        pairs = await sample_pairs(stack, params, judge, NUM_TWIN_SAMPLES)
        expected = pair_distribution(model, PROMPT, params)
    assert p_value(pairs, expected) < ALPHA
