"""The seam behind which drafts are made."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from forethought.sampling.types import Draft
from forethought.tier import (
    EngineWork,
    LookaheadCounts,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    SpeculateRound,
    TierLoad,
)

if TYPE_CHECKING:
    from forethought.engine.batching.engine import Engine  # imports torch


class SessionProposer(Protocol):
    """Makes the drafts of one session."""

    @property
    def num_reused_tokens(self) -> int:
        """Tokens of the opening whose keys and values were in memory already."""
        ...

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        """Guesses up to K tokens, each with the distribution that it was drawn from.

        Raises:
            CachePositionMismatchError: the round starts beyond what the session knows.
        """
        ...

    def close(self) -> None:
        """Frees what the session holds."""
        ...


class Proposer(Protocol):
    """Makes drafts for any number of sessions."""

    @property
    def name(self) -> str:
        """Statistics count by it."""
        ...

    @property
    def info(self) -> ModelInfo:
        """The model."""
        ...

    @property
    def lookahead(self) -> LookaheadCounts:
        """What became of drafting ahead, since the tier started."""
        ...

    def open(self, opening: SessionOpen) -> SessionProposer:
        """Takes a session in, with its committed tokens.

        Raises:
            OverloadedError: there is no room for another.
            InvalidArgumentError: tokens that the model does not have, or too many.
        """
        ...

    @property
    def engines(self) -> "Sequence[Engine[Any, Any]]":
        """Those that it cannot do without."""
        ...

    def load(self) -> TierLoad:
        """What is held now."""
        ...

    def work(self) -> EngineWork:
        """What its engine has done until now, and what waits."""
        ...

    async def close(self) -> None:
        """Fails what is under way, and returns when nothing is computed any more."""
        ...
