"""Guesses that the orchestrator looks up itself, before it asks the draft tier.

A lookup takes microseconds, a round trip to another service a tenth of a small model's round. The
text is here, so it is looked up here: a guess that is found costs no trip, and neither does one
that is not, unless there is a draft tier to ask then.
"""

import asyncio
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Protocol

from forethought.errors import VocabularyMismatchError
from forethought.sampling.types import Draft
from forethought.tier import PassCost, RoundTimings
from orchestrator.lookup.lookup import Lookup, LookupSession
from orchestrator.loop.decode_loop import Proposer
from orchestrator.loop.round import Absence, Ask, Drafted
from orchestrator.loop.session import Session


class DraftTier(Proposer, Protocol):
    """The draft tier, as a generation sees it."""

    @property
    def mismatch(self) -> VocabularyMismatchError | None:
        """Why the tier refused the session when it began, if that was its vocabulary."""
        ...

    @property
    def absence(self) -> Absence | None:
        """Why no draft is to be had of the tier, as far as is known by now."""
        ...

    @property
    def pass_costs(self) -> tuple[PassCost, ...]:
        """What the tier says of its passes; () where it has not, or makes none."""
        ...

    @property
    def wants_hidden_states(self) -> bool:
        """Whether the session's draft guesses from the target's hidden states."""
        ...

    def start(self, session: Session) -> None:
        """Lets the tier get ready."""
        ...

    def close(self) -> None:
        """Ends the session there."""
        ...


class NoDraftTier:
    """Where there is none. That it drafts nothing is no failure.

    Args:
        absence: what that means to a client; None where guesses are looked up.
    """

    wants_hidden_states = False
    pass_costs: tuple[PassCost, ...] = ()
    mismatch: VocabularyMismatchError | None = None

    def __init__(self, absence: Absence | None = None) -> None:
        self.absence = absence

    def start(self, session: Session) -> None:
        """Nobody gets ready."""

    async def propose(self, session: Session, ask: Ask) -> Drafted:  # noqa: ARG002
        return Drafted()

    def close(self) -> None:
        """Nothing is held."""


class LookupFirst:
    """Drafts by the first lookup that finds something, else by the draft tier.

    Args:
        lookups: in the order of preference.
        draft_tier: asked where they find nothing.
    """

    def __init__(self, lookups: Sequence[Lookup], draft_tier: DraftTier) -> None:
        self._lookups = lookups
        self._draft_tier = draft_tier
        self._sessions: list[tuple[str, LookupSession]] = []  # by name, opened when first asked

    async def propose(self, session: Session, ask: Ask) -> Drafted:
        """A draft of at most K tokens, or an empty one. Never raises."""
        if ask.num_speculative_tokens > 0:
            found = await self._look_up(session, ask.num_speculative_tokens)
            if found is not None:
                return found
        return await self._draft_tier.propose(session, ask)

    def close(self) -> None:
        """Forgets the text."""
        for _, lookup in self._sessions:
            lookup.close()

    async def _look_up(self, session: Session, k: int) -> Drafted | None:
        """The draft of the first lookup that has one. Each reads what it has not read yet."""
        self._sessions = self._sessions or [
            (lookup.name, lookup.open(session)) for lookup in self._lookups
        ]
        for name, lookup in self._sessions:
            started_ns = perf_counter_ns()
            if lookup.is_slow(session):
                guesses = await asyncio.to_thread(lookup.draft, session, k)
            else:
                guesses = lookup.draft(session, k)
            if guesses:
                elapsed_ns = perf_counter_ns() - started_ns
                timings = RoundTimings(forward_ns=elapsed_ns, total_ns=elapsed_ns)
                return Drafted(Draft(tuple(guesses), name), timings)
        return None
