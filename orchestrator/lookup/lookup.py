"""What all lookups share: they draft from texts, without a model.

A lookup reads a session's tokens, which only grow. It is never told what was drafted or accepted.

Guesses are certain, unless a lookup draws them: q is one-hot, and rejection sampling accepts them
with probability p. A coupled session gets the bare guess, as from a model: there the target's own
choice is compared with it, and how likely the draft took it is never asked.
"""

from collections.abc import Sequence
from typing import Protocol

from forethought.sampling.types import DraftedToken
from orchestrator.loop.session import Session


class LookupSession(Protocol):
    """What one lookup knows of one session."""

    def is_slow(self, session: Session) -> bool:
        """Whether another thread should do the next `draft`: to take it over costs more than a
        short search."""
        ...

    def draft(self, session: Session, num_tokens: int) -> Sequence[DraftedToken]:
        """How the text may go on, in at most so many tokens; none where nothing is found.

        Args:
            session: with the tokens of the call before, and those committed since.
            num_tokens: K, at least 1.
        """
        ...

    def close(self) -> None:
        """Frees what the session holds."""
        ...


class Lookup(Protocol):
    """Looks guesses up for any number of sessions."""

    @property
    def name(self) -> str:
        """As in the settings; statistics count by it."""
        ...

    def open(self, session: Session) -> LookupSession:
        """Takes a session in. Nothing is read before the first draft."""
        ...
