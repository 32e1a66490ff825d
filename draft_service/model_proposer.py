"""Drafts by a small causal language model, token after token, for all sessions side by side."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch

from draft_service.lookahead import FullAcceptance, replacements
from draft_service.speculation import Bet, Speculation
from forethought.engine.batching.engine import Engine
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.model.causal_model import CausalModel
from forethought.engine.rows.coupling import draw_coupled
from forethought.engine.rows.draws import draw_drafts
from forethought.engine.rows.filters import shape_rows
from forethought.sampling.types import Draft, DraftedToken, LookaheadOutcome
from forethought.tier import (
    EngineWork,
    LookaheadCounts,
    ModelInfo,
    RoundTimings,
    SessionOpen,
    SpeculateRound,
    TierLoad,
)

Guessing = Speculation | FullAcceptance
"""What wants the next guess."""


class ModelProposer:
    """Drafts by a model that all sessions share.

    q is the model's distribution, shaped like the target's and cut to its `max_support` most
    likely tokens, so that all of it travels with each guess.

    Args:
        model: loaded and warm.
        info: of the model.
        num_vocabulary_tokens: ids below this have a meaning.
        max_support: M.
        limits: of the engine that runs the model.
    """

    name = Speculation.proposer

    def __init__(
        self,
        model: CausalModel,
        info: ModelInfo,
        num_vocabulary_tokens: int,
        max_support: int,
        limits: EngineLimits,
    ) -> None:
        self._num_vocabulary_tokens = num_vocabulary_tokens
        self._max_support = max_support
        self.num_bets = 0
        """How many ends of a round to draft beyond while it is verified; for rounds to come."""
        self.min_prob = 0.0
        """Drafts end before a place where the model gives its likeliest token less; for rounds to
        come. What counts is the model's own distribution, before any shaping: at temperature 0 a
        shaped one is always certain."""
        self.lookahead = LookaheadCounts()
        self.engine: Engine[Guessing, Draft] = Engine(
            model, limits, self._guess, pass_costs=info.pass_costs
        )
        # What it says it gives, a tier gives: here, drafts.
        self.info = replace(info, max_model_len=self.engine.max_model_len, hidden_size=0)

    def open(self, opening: SessionOpen) -> "ModelSession":
        salt = opening.tenant.encode()
        num_reused_tokens = self.engine.count_reusable(opening.token_ids, salt)
        sequence = self.engine.open(opening.token_ids, salt)
        return ModelSession(self, sequence, opening, num_reused_tokens)

    def look_ahead(self, last: Speculation) -> list[Bet]:
        """Begins to draft the round after one, as far as that is wanted and there can be one."""
        max_len = self.info.max_model_len
        if not self.num_bets or not FullAcceptance.has_room(last, max_len):
            return []
        chain = FullAcceptance(last, max_len)
        self.engine.start(chain)
        salt = last.opening.tenant.encode()
        others = replacements(
            last, self.num_bets - 1, max_len, lambda: self.engine.new_sequence(salt)
        )
        for bet in others:
            self.engine.start(bet)
        return [chain, *others]

    def count(self, outcome: LookaheadOutcome | None, num_wasted_tokens: int) -> None:
        """Notes what became of drafting ahead."""
        counts = self.lookahead
        self.lookahead = LookaheadCounts(
            counts.num_hits + (outcome is LookaheadOutcome.HIT),
            counts.num_misses + (outcome is LookaheadOutcome.MISS),
            counts.num_wasted_tokens + num_wasted_tokens,
        )

    @property
    def engines(self) -> Sequence[Engine[Guessing, Draft]]:
        """The only one."""
        return (self.engine,)

    def load(self) -> TierLoad:
        return self.engine.load()

    def work(self) -> EngineWork:
        return self.engine.work()

    async def close(self) -> None:
        await self.engine.close()

    def _guess(self, rounds: Sequence[Guessing], logits: torch.Tensor) -> list[Draft | None]:
        """The next guess of each session, from one row each, [n, V]."""
        scores = self._scores(logits)
        guesses = self._draw(rounds, shape_rows(scores, [each.rows for each in rounds]))
        return [
            each.take(guess, is_confident=is_confident)
            for each, guess, is_confident in zip(
                rounds, guesses, self._are_confident(scores), strict=True
            )
        ]

    def _are_confident(self, scores: torch.Tensor) -> list[bool]:
        """For each row of [n, V] whether its likeliest token is likely enough."""
        if not self.min_prob:
            return [True] * len(scores)
        logprobs = scores.amax(dim=-1) - scores.logsumexp(dim=-1)  # [n]
        confident: list[bool] = (logprobs >= math.log(self.min_prob)).tolist()
        return confident

    def _draw(self, rounds: Sequence[Guessing], probs: torch.Tensor) -> list[DraftedToken]:
        """A guess from each row of [n, V]."""
        guesses: list[DraftedToken] = []
        for is_coupled, group in groupby(rounds, key=lambda each: each.is_coupled):
            alike = list(group)
            own = probs[len(guesses) : len(guesses) + len(alike)]
            if is_coupled:
                guesses += self._draw_coupled(own, [each.coupling_key for each in alike])
            else:
                guesses += self._draw_drafts(own, [each.uniform for each in alike])
        return guesses

    def _draw_coupled(self, probs: torch.Tensor, keys: Sequence[int]) -> list[DraftedToken]:
        """By noise that the target shares."""
        return draw_coupled(probs, keys)

    def _draw_drafts(self, probs: torch.Tensor, uniforms: Sequence[float]) -> list[DraftedToken]:
        return draw_drafts(probs, self._max_support, uniforms)

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """[n, V] -> [n, V]: a score for every token id of the sessions."""
        # Padding beyond the vocabulary has scores too, but no meaning to the target. It is not
        # cut off, since a prompt may hold it and the penalty then looks it up.
        if logits.shape[-1] == self._num_vocabulary_tokens:
            return logits
        known = logits.clone()
        known[:, self._num_vocabulary_tokens :] = -torch.inf
        return known


class ModelSession:
    """The drafts of one session."""

    def __init__(
        self,
        proposer: ModelProposer,
        sequence: CachedSequence,
        opening: SessionOpen,
        num_reused_tokens: int,
    ) -> None:
        self.proposer = proposer
        self.sequence = sequence
        self.opening = opening
        self._bets: list[Bet] = []
        self.num_reused_tokens = num_reused_tokens

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        room = self.proposer.info.max_model_len - request.position
        num_tokens = max(min(request.num_speculative_tokens, room), 0)
        bets, self._bets = self._bets, []
        work = Speculation(self.sequence, request, self.opening, num_tokens, bets)
        try:
            draft, timings = await self.proposer.engine.run(work)
        finally:
            self._drop(bets)
        self.proposer.count(draft.lookahead, draft.num_wasted_tokens)
        self._bets = self.proposer.look_ahead(work)
        return draft, timings

    def close(self) -> None:
        self.proposer.count(None, sum(bet.num_made for bet in self._bets))
        self._drop(self._bets)
        self.proposer.engine.discard(self.sequence)

    def _drop(self, bets: Sequence[Bet]) -> None:
        """Frees the sequences of bets."""
        for bet in bets:
            if bet.sequence is not self.sequence:
                self.proposer.engine.discard(bet.sequence)
