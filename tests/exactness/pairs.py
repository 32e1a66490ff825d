"""Pairs of tokens drawn through running gRPC servers.

Draft and target are tiny random models behind their real servers; speculation, verification and
rejection sampling run as in production, with K = 3. Every sample is the joint outcome of two
tokens.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from draft_service.model_proposer import ModelProposer
from draft_service.proposer import Proposer
from forethought.sampling.judges import Judge
from forethought.sampling.params import SamplingParams
from forethought.sampling.rejection import judge
from orchestrator.decode_loop import DecodingStrategy, decode
from orchestrator.remote_proposer import DraftPatience, RemoteProposer
from orchestrator.remote_verifier import RemoteVerifier
from orchestrator.round import Ask, Round
from orchestrator.session import Session
from tests.exactness.memoized import MemoizedModel
from tests.stack import LoadedModel, Stack, running_stack

PROMPT = (8, 2, 2, 6, 11)
"""After these tokens q and p differ so much that even shared noise shows, the subtlest mistake."""
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


@asynccontextmanager
async def memoized_stack(
    target: LoadedModel,
    draft: LoadedModel,
    make_proposer: Callable[[ModelProposer], Proposer] = lambda proposer: proposer,
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
    """Draws pairs on some sessions side by side, which share the passes of both tiers."""
    parts = await asyncio.gather(
        *(
            _sample_on_one_session(stack, params, judge, range(first, num_samples, NUM_SESSIONS))
            for first in range(NUM_SESSIONS)
        )
    )
    return sum(parts, Counter())


async def _sample_on_one_session(
    stack: Stack, params: SamplingParams, judge: Judge, samples: range
) -> Counter[tuple[int, int]]:
    """On one stream a tier: every sample rewinds to the prompt and takes new rounds."""
    vocabulary = stack.deployment.tokenizer.fingerprint
    patience = DraftPatience(open_s=10, round_s=60)
    proposer = RemoteProposer(stack.draft_stub, vocabulary, patience=patience)
    verifier = RemoteVerifier(stack.target_stub, stack.deployment.target)
    strategy = DecodingStrategy(proposer, verifier, judge, AlwaysSpeculate())
    start = Session("pairs", PROMPT, max_len=len(PROMPT) + K + 1, sampling=params)
    proposer.start(start)
    pairs: Counter[tuple[int, int]] = Counter()
    try:
        for index in samples:
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
