"""What all lookup proposers share: they draft from the text itself, without a model.

Guesses are certain, unless a proposer draws them: q is one-hot, and rejection sampling accepts with
probability p. A coupled session gets the bare guess, as from a model: there the target's own choice
is compared with it, and how likely the draft took it is never asked.
"""

import asyncio
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Sequence
from time import perf_counter_ns
from typing import ClassVar

from forethought.errors import CachePositionMismatchError, OverloadedError
from forethought.sampling.types import (
    Draft,
    DraftedToken,
    VerificationMode,
    as_probabilities,
    coupled_guess,
)
from forethought.tier import (
    EngineWork,
    LookaheadCounts,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    SpeculateRound,
    TierLoad,
)

_CERTAIN = as_probabilities([1.0])

MAX_TOKENS = 2**22
"""Of all sessions together: an index takes some hundred bytes a token."""
_MANY_TOKENS = 1024
"""In one round. The sum over all sessions is looked at when so many come at once."""


class LookupProposer(ABC):
    """Takes sessions in, up to a number.

    Args:
        info: the vocabulary, and the longest text to search.
        max_sessions: most sessions open at a time.
    """

    name: ClassVar[str]
    lookahead: ClassVar = LookaheadCounts()  # a search is as fast when it is asked for

    def __init__(self, info: ModelInfo, max_sessions: int) -> None:
        self.info = info
        self._max_sessions = max_sessions
        self._sessions: set[LookupSession] = set()

    def open(self, opening: SessionOpen) -> "LookupSession":
        if len(self._sessions) >= self._max_sessions:
            raise OverloadedError(
                f"{self._max_sessions} sessions are open, the most this tier takes"
            )
        self.check_room(len(opening.token_ids))
        session = self.new_session(opening)
        self._sessions.add(session)
        return session

    def check_room(self, num_tokens: int) -> None:
        """Raises OverloadedError where so many more tokens are too many."""
        num_held = sum(len(session.log) for session in list(self._sessions))
        if num_held + num_tokens > MAX_TOKENS:
            raise OverloadedError(
                f"{num_held} tokens are held, of {MAX_TOKENS} that this tier takes at most"
            )

    @abstractmethod
    def new_session(self, opening: SessionOpen) -> "LookupSession":
        """A session of this kind."""

    @property
    def engines(self) -> tuple[()]:
        """None."""
        return ()

    def load(self) -> TierLoad:
        return TierLoad(len(self._sessions), num_cached_tokens=0, num_queued_jobs=0)

    def work(self) -> EngineWork:
        """Nothing: there is no engine."""
        return EngineWork()

    async def close(self) -> None:
        """Forgets all sessions. Nothing is ever under way."""
        self._sessions.clear()

    def discard(self, session: "LookupSession") -> None:
        """Forgets a session, if it is open."""
        self._sessions.discard(session)


class LookupSession(ABC):
    """The token log of one session, and how it is looked up."""

    num_reused_tokens = 0

    def __init__(self, proposer: LookupProposer, opening: SessionOpen) -> None:
        self._proposer = proposer
        self.mode = opening.mode
        self.log = array("I", opening.token_ids)

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        started_ns = perf_counter_ns()
        if self.is_slow(request):
            draft = await asyncio.to_thread(self.look_up, request)
        else:
            draft = self.look_up(request)
        elapsed_ns = perf_counter_ns() - started_ns
        return draft, RoundTimings(forward_ns=elapsed_ns, total_ns=elapsed_ns)

    def look_up(self, request: SpeculateRound) -> Draft:
        """The draft of a round."""
        num_kept = self._commit(request)
        return Draft(tuple(self.draft_tokens(request, num_kept)), self._proposer.name)

    def draft_tokens(self, request: SpeculateRound, num_kept: int) -> Iterable[DraftedToken]:
        """The guesses for a round whose tokens the log holds; `num_kept` as in `guess`."""
        return map(self._drafted, self.guess(request.num_speculative_tokens, num_kept))

    @abstractmethod
    def is_slow(self, request: SpeculateRound) -> bool:
        """Whether another thread should do it: to take it over costs more than a short search."""

    @abstractmethod
    def guess(self, num_tokens: int, num_kept: int) -> Sequence[int]:
        """How the log may go on.

        Args:
            num_tokens: most tokens to guess.
            num_kept: tokens at the beginning of the log that are the same as in the last round.
        """

    def close(self) -> None:
        self._proposer.discard(self)

    def _commit(self, request: SpeculateRound) -> int:
        """Brings the log up to date. Returns how long its old and new version are the same."""
        committed = array("I", request.committed_token_ids)
        start = request.position - len(committed)
        if not 0 <= start <= len(self.log):
            raise CachePositionMismatchError(
                f"tokens from {start} on, where {len(self.log)} are known"
            )
        if len(committed) > _MANY_TOKENS:
            self._proposer.check_room(len(committed) - (len(self.log) - start))
        known = self.log[start : request.position]
        num_same = next(
            (i for i, pair in enumerate(zip(known, committed, strict=False)) if pair[0] != pair[1]),
            len(known),
        )
        del self.log[start:]
        self.log.extend(committed)
        return start + num_same

    def _drafted(self, token_id: int) -> DraftedToken:
        if self.mode is VerificationMode.COUPLED:
            return coupled_guess(token_id)
        return DraftedToken(token_id, [token_id], _CERTAIN)
