"""The loop: speculation, parallel verification, rejection sampling, and again.

Plain autoregressive decoding is the same loop with K = 0: nothing is drafted, the target's sample
at the one position it measures is the bonus token.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from forethought.sampling.judges import Judge
from forethought.sampling.types import Draft, Evidence
from forethought.tier import RoundTimings
from orchestrator.policy import SpeculationPolicy
from orchestrator.round import Ask, Round
from orchestrator.session import Session


class Proposer(Protocol):
    """Makes drafts."""

    async def propose(self, session: Session, ask: Ask) -> Draft:
        """A draft of at most K tokens after the session's; empty where there is none to be had.
        Never raises because of the draft tier.
        """
        ...

    @property
    def has_failed(self) -> bool:
        """Whether the last draft is empty because the tier had none to give in time."""
        ...

    @property
    def timings(self) -> RoundTimings:
        """Of the last draft, by the tier's clock; all 0 if it gave none."""
        ...


class Verifier(Protocol):
    """Measures drafts under the target model."""

    async def verify(
        self, session: Session, draft: Draft, *, next_is_plain: bool = False
    ) -> Evidence:
        """The evidence at the K + 1 positions of a draft.

        Args:
            session: committed so far.
            draft: K guesses after it.
            next_is_plain: the next round is expected to have none, so that it may be computed
                while the evidence of this one travels.

        Raises:
            TierUnavailableError: the target tier is lost.
        """
        ...

    @property
    def timings(self) -> RoundTimings:
        """Of the last round, by the target's clock."""
        ...


@dataclass(frozen=True, slots=True)
class DecodingStrategy:
    """Who does each step."""

    proposer: Proposer
    verifier: Verifier
    judge: Judge
    policy: SpeculationPolicy


async def decode(session: Session, strategy: DecodingStrategy) -> AsyncGenerator[Round]:
    """Runs rounds for as long as the caller takes them and there is room.

    Every round commits at least one token.
    """
    while session.room > 0:
        ask = strategy.policy.ask(session).within(session.room)
        started = time.perf_counter_ns()

        draft = await strategy.proposer.propose(session, ask)
        drafted = time.perf_counter_ns()

        evidence = await strategy.verifier.verify(session, draft, next_is_plain=ask.next_is_plain)
        verified = time.perf_counter_ns()

        outcome = strategy.judge(draft, evidence, session.randomness, session.position)
        judged = time.perf_counter_ns()

        turn = Round(
            session,
            ask,
            draft,
            evidence,
            outcome,
            speculation_ns=drafted - started,
            verification_ns=verified - drafted,
            rejection_ns=judged - verified,
            target_timings=strategy.verifier.timings,
            draft_timings=strategy.proposer.timings,
            draft_failed=strategy.proposer.has_failed,
        )
        strategy.policy.learn(turn)
        yield turn
        session = session.commit(outcome, evidence.hidden_states)
