"""Pairs of tokens drawn through a running deployment.

Draft and target are tiny random models behind their real servicers; speculation, verification and
judgement run as in production, with K = 3. Every sample is the joint outcome of two tokens.

Samples of the same seed differ by their rounds, so one session draws many. Coupled noise knows no
rounds: there every sample is a session of its own seed.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from draft_service.model_proposer import ModelProposer
from draft_service.proposer import Proposer
from forethought.sampling.judges import Judge
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from forethought.sampling.types import Draft, VerificationMode
from orchestrator.lookup.lookup import Lookup
from orchestrator.loop.decode_loop import DecodingStrategy, decode
from orchestrator.loop.round import Ask, Round
from orchestrator.loop.session import Session
from orchestrator.tiers.lookup_first import DraftTier, LookupFirst, NoDraftTier
from orchestrator.tiers.patience import DraftPatience
from orchestrator.tiers.remote_proposer import RemoteProposer
from orchestrator.tiers.remote_verifier import RemoteVerifier, WantedEvidence
from tests.exactness.memoized import MemoizedModel
from tests.exactness.wire import DraftWire, TargetWire
from tests.stack import LoadedModel, Stack, running_stack

PROMPT = (8, 2, 2, 6, 11)
"""After these tokens q and p differ so much that even shared noise shows, the subtlest mistake."""
BLOCK_PROMPT = (10, 6, 3, 10, 7)
"""After these, blocks accept 0.41 guesses a round, and rejection sampling 0.35."""
K = 3
MAX_SUPPORT = 4  # of 12 tokens: q is truncated, p has a tail
ROUNDS_PER_SAMPLE = 2
NUM_SESSIONS = 32


@dataclass(frozen=True)
class AlwaysSpeculate:
    """K in every round, the first included."""

    expects_speculation = True

    def ask(self, session: Session) -> Ask:
        return Ask(K)

    def learn(self, judged: Round) -> None:
        """Nothing changes it."""

    def close(self) -> None:
        """Nothing is held."""


@asynccontextmanager
async def memoized_stack(
    target: LoadedModel,
    draft: LoadedModel,
    make_proposer: Callable[[ModelProposer], Proposer] = lambda proposer: proposer,
    judge: Judge = judge,
) -> AsyncIterator[tuple[Stack, MemoizedModel]]:
    proposer = replace(draft, model=MemoizedModel(draft.model)).proposer(MAX_SUPPORT)
    async with remembering_stack(target, make_proposer(proposer), judge) as each:
        yield each


@asynccontextmanager
async def remembering_stack(
    target: LoadedModel,
    proposer: Proposer | None = None,
    judge: Judge = judge,
    lookups: Sequence[Lookup] = (),
) -> AsyncIterator[tuple[Stack, MemoizedModel]]:
    """The same with any proposer, and with lookups of the orchestrator."""
    remembering = replace(target, model=MemoizedModel(target.model))
    async with running_stack(remembering, proposer, judge=judge, lookups=lookups) as stack:
        yield stack, remembering.model


@dataclass(frozen=True)
class Sampling:
    """What is sampled, and who judges it."""

    params: SamplingParams
    judge: Judge
    mode: VerificationMode = VerificationMode.REJECTION
    prompt: tuple[int, ...] = PROMPT
    over_grpc: bool = False
    """Instead of the wire within the process, over which samples are the same."""


@dataclass(frozen=True)
class Sample:
    """The first two tokens, and how many guesses the first round accepted."""

    pair: tuple[int, int]
    num_accepted_tokens: int


async def sample_pairs(
    stack: Stack, sampling: Sampling, indices: range
) -> Counter[tuple[int, int]]:
    """Draws pairs on some sessions side by side, which share the passes of both tiers."""
    return Counter(sample.pair for sample in await sample_by_rounds(stack, sampling, indices))


async def sample_by_rounds(stack: Stack, sampling: Sampling, indices: range) -> list[Sample]:
    """All of one seed, on some sessions side by side; the same index is the same sample."""

    async def draw(indices: range) -> list[Sample]:
        """On one stream a tier: every sample rewinds to the prompt and takes new rounds."""
        async with _a_session(stack, sampling) as (start, strategy):
            rounds = [replace(start, round=index * ROUNDS_PER_SAMPLE) for index in indices]
            return [await _sample(stack, session, strategy) for session in rounds]

    return await _side_by_side(draw, indices)


async def sample_by_seeds(stack: Stack, sampling: Sampling, seeds: range) -> list[Sample]:
    """One for each seed, in order, each on streams of its own."""

    async def draw(indices: range) -> list[Sample]:
        samples: list[Sample] = []
        for seed in indices:
            own = replace(sampling, params=replace(sampling.params, seed=seed))
            async with _a_session(stack, own) as (session, strategy):
                samples.append(await _sample(stack, session, strategy))
        return samples

    return await _side_by_side(draw, seeds)


async def _side_by_side(
    draw: Callable[[range], Awaitable[list[Sample]]], indices: range
) -> list[Sample]:
    """The samples in the order of their indices."""
    ways = range(min(NUM_SESSIONS, len(indices)))
    parts = await asyncio.gather(*(draw(indices[way::NUM_SESSIONS]) for way in ways))
    return [parts[place % len(ways)][place // len(ways)] for place in range(len(indices))]


@asynccontextmanager
async def _a_session(
    stack: Stack, sampling: Sampling
) -> AsyncIterator[tuple[Session, DecodingStrategy]]:
    """A session that holds the prompt, with a stream to each tier."""
    vocabulary = stack.deployment.tokenizer.fingerprint
    patience = DraftPatience(open_s=10, round_s=60)
    draft_tier: DraftTier = NoDraftTier()
    needs_states = False
    if stack.proposer is not None:
        draft_stub: Any = stack.draft_stub if sampling.over_grpc else DraftWire(stack.proposer)
        draft_tier = RemoteProposer(draft_stub, vocabulary, patience=patience)
        needs_states = stack.proposer.info.hidden_states_need is not None
    target_stub: Any = stack.target_stub if sampling.over_grpc else TargetWire(stack.target)
    verifier = RemoteVerifier(
        target_stub,
        stack.deployment.target,
        wanted=WantedEvidence(hidden_states=lambda: needs_states),
    )
    strategy = DecodingStrategy(draft_tier, verifier, sampling.judge, AlwaysSpeculate())
    prompt, mode = sampling.prompt, sampling.mode
    session = Session("pairs", prompt, len(prompt) + K + 1, sampling.params, mode=mode)
    draft_tier.start(session)
    if needs_states:
        # So that the first round of every sample has a draft, too.
        answer = await verifier.verify(session, Draft())
        states = answer.evidence.hidden_states
        assert states is not None
        session = replace(session, hidden_states=states.within(0, len(prompt) - 1))
    try:
        yield session, strategy
    finally:
        draft_tier.close()
        verifier.close()


async def _sample(stack: Stack, session: Session, strategy: DecodingStrategy) -> Sample:
    """Lookups, whose sessions only grow, are opened for each sample."""
    token_ids: list[int] = []
    accepted: list[int] = []
    proposer = LookupFirst(stack.tiers.lookups, strategy.proposer)
    async with aclosing(decode(session, replace(strategy, proposer=proposer))) as rounds:
        async for judged in rounds:
            assert not judged.drafted.has_failed
            token_ids += [token.token_id for token in judged.outcome.tokens]
            accepted.append(judged.outcome.num_accepted_tokens)
            if len(token_ids) >= 2:
                break
    proposer.close()
    return Sample((token_ids[0], token_ids[1]), accepted[0])
