"""The seam behind which drafts are made."""

from typing import Protocol

from forethought.sampling.types import Draft
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound


class SessionProposer(Protocol):
    """Makes the drafts of one session. Touched in the engine's thread only."""

    @property
    def num_cached_tokens(self) -> int:
        """Tokens with keys and values in memory."""
        ...

    def prefill(self, max_tokens: int) -> bool:
        """Computes a chunk of the committed tokens; returns whether more are left."""
        ...

    def propose(self, request: SpeculateRound) -> Draft:
        """Guesses up to K tokens, each with the distribution that it was drawn from.

        Raises:
            CachePositionMismatchError: the round starts beyond what the session knows.
        """
        ...

    def release(self) -> None:
        """Frees the keys and values."""
        ...


class Proposer(Protocol):
    """Makes drafts for any number of sessions."""

    @property
    def name(self) -> str:
        """The kind of proposer, as in the settings."""
        ...

    @property
    def info(self) -> ModelInfo:
        """The model, or the vocabulary of a proposer without one."""
        ...

    def open(self, opening: SessionOpen) -> SessionProposer:
        """A proposer for one session, which knows its committed tokens."""
        ...
