"""The loop: speculation, parallel verification, rejection sampling, and again.

Plain autoregressive decoding is the same loop with K = 0: nothing is drafted, the target's sample
at the one position it measures is the bonus token.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from forethought.sampling.judges import Judge
from forethought.sampling.types import Draft
from forethought.tier import EvidenceRound
from orchestrator.loop.round import Ask, Drafted, Round
from orchestrator.loop.session import Session


class Proposer(Protocol):
    """Makes drafts."""

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        """A draft of at most K tokens after the session's; empty where there is none to be had.
        Never raises because of the draft tier.
        """
        ...


class Verifier(Protocol):
    """Measures drafts under the target model."""

    async def verify(
        self, session: Session, draft: Draft, *, next_is_plain: bool = False
    ) -> EvidenceRound:
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


class SpeculationPolicy(Protocol):
    """Chooses K for the rounds of one session. Zero is a normal answer."""

    @property
    def expects_speculation(self) -> bool:
        """Whether a session that begins will ask for drafts, so that the draft tier should get
        ready."""
        ...

    def ask(self, session: Session) -> Ask:
        """What to ask of the draft tier in the coming round."""
        ...

    def learn(self, judged: Round) -> None:
        """Hears how a round went."""
        ...

    def close(self) -> None:
        """The session has ended."""
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
        started_at = time.perf_counter_ns()

        drafted = await strategy.proposer.propose(session, ask)
        draft, drafted_at = drafted.draft, time.perf_counter_ns()

        measured = await strategy.verifier.verify(session, draft, next_is_plain=ask.next_is_plain)
        evidence, measured_at = measured.evidence, time.perf_counter_ns()

        outcome = strategy.judge(draft, evidence, session.randomness, session.position)
        judged_at = time.perf_counter_ns()

        turn = Round(
            session,
            ask,
            drafted,
            measured,
            outcome,
            speculation_ns=drafted_at - started_at,
            verification_ns=measured_at - drafted_at,
            rejection_ns=judged_at - measured_at,
        )
        strategy.policy.learn(turn)
        yield turn
        session = session.commit(outcome, evidence.hidden_states)
