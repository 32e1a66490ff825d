"""How many tokens to draft in a round (K)."""

from dataclasses import dataclass
from typing import Protocol

from orchestrator.session import Session


class SpeculationPolicy(Protocol):
    """Chooses K. Zero is a normal answer."""

    def num_speculative_tokens(self, session: Session) -> int:
        """K for the coming round of a session."""
        ...


@dataclass(frozen=True, slots=True)
class FixedPolicy:
    """The same K in every round but the first.

    The first round computes the whole prompt. Waiting for a draft before it would delay the first
    token by the time that the draft tier takes for the same prompt; without, both tiers compute it
    at once.
    """

    k: int

    def num_speculative_tokens(self, session: Session) -> int:
        return self.k if session.round else 0
