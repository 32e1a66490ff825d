"""Drafts by lookup where the text has been there before, else by a model.

A long match is right more often than most draft models, and costs microseconds instead of passes.
Where there is none, or its continuation is too uncertain, the model guesses: or counts do in its
place, or another hybrid of counts and a model. Each draft says who made it, so that acceptance is
counted apart.

The lookup sees every round. The model is asked only when it has to guess, and is told then what was
committed since it was asked last, with the target's hidden states if it needs them.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from draft_service.proposer import Proposer, SessionProposer
from forethought.lookup.proposer import LookupProposer, LookupSession
from forethought.sampling.hidden_states import HiddenStates, joined
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

MAX_UNTOLD_STATES = 256
"""Positions whose hidden states are kept for the model, the latest."""

if TYPE_CHECKING:
    from forethought.engine.batching.engine import (
        Engine,  # imports torch, which a lookup does without
    )


class HybridProposer:
    """Drafts by one of two.

    Args:
        lookup: its shortest match decides when it is preferred. For the model's vocabulary.
        model: for all other rounds. Any proposer.
    """

    name = "hybrid"

    def __init__(self, lookup: LookupProposer, model: Proposer) -> None:
        self._lookup = lookup
        self.model = model

    @property
    def info(self) -> ModelInfo:
        """The model's."""
        return self.model.info

    @property
    def lookahead(self) -> LookaheadCounts:
        """The model's."""
        return self.model.lookahead

    def open(self, opening: SessionOpen) -> "HybridSession":
        model = self.model.open(opening)
        try:
            lookup = self._lookup.open(opening)
        except BaseException:
            model.close()
            raise
        return HybridSession(lookup, model, len(opening.token_ids))

    @property
    def engines(self) -> "Sequence[Engine[Any, Any]]":
        """The model's."""
        return self.model.engines

    def load(self) -> TierLoad:
        return self.model.load()

    def work(self) -> EngineWork:
        return self.model.work()

    async def close(self) -> None:
        await self._lookup.close()
        await self.model.close()


class HybridSession:
    """Both sessions, and the tokens that the model has not been told yet."""

    def __init__(self, lookup: LookupSession, model: SessionProposer, num_tokens: int) -> None:
        self._lookup = lookup
        self._model = model
        self._num_told = num_tokens  # committed tokens that the model was told, and still stand
        self._untold: list[int] = []  # those behind them
        self._untold_states: HiddenStates | None = None  # of the target, likewise

    @property
    def num_reused_tokens(self) -> int:
        """The model's."""
        return self._model.num_reused_tokens

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        started_ns = perf_counter_ns()
        draft, looked_up = await self._lookup.propose(request)
        self._commit(request)
        if draft.tokens:
            return draft, looked_up
        caught_up = replace(
            request, committed_token_ids=self._untold, hidden_states=self._untold_states
        )
        draft, timings = await self._model.propose(caught_up)
        # Only now: told twice does no harm, and a round that failed may not have been taken.
        self._num_told, self._untold, self._untold_states = request.position, [], None
        return draft, replace(
            timings,
            forward_ns=looked_up.forward_ns + timings.forward_ns,
            total_ns=perf_counter_ns() - started_ns,
        )

    def close(self) -> None:
        self._lookup.close()
        self._model.close()

    def _commit(self, request: SpeculateRound) -> None:
        """Takes note of a round that the lookup has found to follow on what is known."""
        start = request.position - len(request.committed_token_ids)
        self._num_told = min(self._num_told, start)
        self._untold[start - self._num_told :] = request.committed_token_ids
        states = joined(self._untold_states, request.hidden_states)
        if states is not None:
            first = request.position - MAX_UNTOLD_STATES
            self._untold_states = states.within(first, request.position - 1)
