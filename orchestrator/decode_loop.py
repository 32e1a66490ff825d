"""The loop: speculation, parallel verification, rejection sampling, and again.

Plain autoregressive decoding is the same loop with K = 0: nothing is drafted, the target's sample
at the one position it measures is the bonus token.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from forethought.sampling.judges import Judge
from forethought.sampling.types import Draft, Evidence, Outcome
from orchestrator.policy import SpeculationPolicy
from orchestrator.session import Session


class Proposer(Protocol):
    """Makes drafts."""

    async def propose(self, session: Session, num_speculative_tokens: int) -> Draft:
        """A draft of at most K tokens after the session's; empty where there is none to be had.
        Never raises because of the draft tier.
        """
        ...


class Verifier(Protocol):
    """Measures drafts under the target model."""

    async def verify(self, session: Session, draft: Draft) -> Evidence:
        """The evidence at the K + 1 positions of a draft.

        Raises:
            TierUnavailableError: the target tier is lost.
        """
        ...


@dataclass(frozen=True, slots=True)
class DecodingStrategy:
    """Who does each step."""

    proposer: Proposer
    verifier: Verifier
    judge: Judge
    policy: SpeculationPolicy


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of the loop, for those who watch."""

    session: Session  # before the round
    num_speculative_tokens: int  # K that was asked for
    draft: Draft
    evidence: Evidence
    outcome: Outcome
    speculation_ns: int
    verification_ns: int
    rejection_ns: int


async def decode(session: Session, strategy: DecodingStrategy) -> AsyncGenerator[Round]:
    """Runs rounds for as long as the caller takes them and there is room.

    Every round commits at least one token.
    """
    while session.room > 0:
        # K + 1 tokens come of a round at most, so the last place needs no draft.
        k = min(strategy.policy.num_speculative_tokens(session), session.room - 1)
        started = time.perf_counter_ns()

        draft = await strategy.proposer.propose(session, k)
        drafted = time.perf_counter_ns()

        evidence = await strategy.verifier.verify(session, draft)
        verified = time.perf_counter_ns()

        outcome = strategy.judge(draft, evidence, session.randomness, session.position)
        judged = time.perf_counter_ns()

        yield Round(
            session,
            k,
            draft,
            evidence,
            outcome,
            speculation_ns=drafted - started,
            verification_ns=verified - drafted,
            rejection_ns=judged - verified,
        )
        session = session.commit(outcome)
