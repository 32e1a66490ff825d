"""Drafts by a small causal language model, token after token, for all sessions side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import ClassVar

import torch

from forethought.engine.causal_model import CausalModel
from forethought.engine.coupling import draw_coupled
from forethought.engine.draws import draw_drafts
from forethought.engine.engine import Engine, EngineLimits
from forethought.engine.filters import ShapedRows, row_contexts, shape_rows
from forethought.engine.sequence import CachedSequence
from forethought.sampling.params import SamplingParams
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.types import Draft, DraftedToken, VerificationMode
from forethought.tier import ModelInfo, RoundTimings, SessionOpen, SpeculateRound, TierLoad


@dataclass(frozen=True, slots=True)
class Speculation:
    """One round of one session: K guesses, one pass each.

    The last guess is not fed: the next round does that, if it stays.
    """

    num_logits: ClassVar[int] = 1

    sequence: CachedSequence
    request: SpeculateRound
    sampling: SamplingParams
    mode: VerificationMode
    num_tokens: int  # K
    guesses: list[DraftedToken] = field(default_factory=list)

    @property
    def rows(self) -> ShapedRows:
        """How its row of logits becomes q."""
        guessed = [guess.token_id for guess in self.guesses]
        contexts = row_contexts(self.sampling, self.sequence, guessed, num_rows=1)
        return ShapedRows(1, self.sampling, contexts)

    @property
    def is_coupled(self) -> bool:
        """Whether guesses are chosen by noise that the target shares."""
        return self.mode is VerificationMode.COUPLED

    @property
    def position(self) -> int:
        """Where the next guess goes."""
        return self.request.position + len(self.guesses)

    @property
    def uniform(self) -> float:
        """The draw that chooses the next guess."""
        randomness = KeyedRandomness(self.sampling.seed, self.request.round)
        return randomness.uniform(Stream.DRAFT, self.position)

    @property
    def coupling_key(self) -> int:
        """What the shared noise for the next guess is keyed by."""
        return coupling_key(self.sampling.seed, self.position)

    def begin(self) -> None:
        """Rolls back to the committed tokens.

        Raises:
            CachePositionMismatchError: the round starts beyond what the sequence knows.
        """
        self.sequence.commit(self.request.position, self.request.committed_token_ids)
        self.sequence.speculate(())

    def take(self, guess: DraftedToken) -> Draft | None:
        """Adds a guess; returns the draft once it is whole."""
        if len(self.guesses) < self.num_tokens:
            self.guesses.append(guess)
        if len(self.guesses) == self.num_tokens:
            return Draft(tuple(self.guesses), ModelProposer.name)
        self.feed(guess.token_id)
        return None

    def feed(self, token_id: int) -> None:
        """Puts a guess into the log, for the pass that makes the next one."""
        self.sequence.guess(token_id)


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

    name = "model"

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
        self.engine: Engine[Speculation, Draft] = Engine(model, limits, self._guess)
        self.info = replace(info, max_model_len=self.engine.max_model_len)

    def open(self, opening: SessionOpen) -> "ModelSession":
        salt = opening.tenant.encode()
        num_reused_tokens = self.engine.count_reusable(opening.token_ids, salt)
        sequence = self.engine.open(opening.token_ids, salt)
        return ModelSession(self, sequence, opening, num_reused_tokens)

    def load(self) -> TierLoad:
        return self.engine.load()

    async def close(self) -> None:
        await self.engine.close()

    def _guess(self, rounds: Sequence[Speculation], logits: torch.Tensor) -> list[Draft | None]:
        """The next guess of each session, from one row each, [n, V]."""
        probs = shape_rows(self._scores(logits), [each.rows for each in rounds])  # [n, V]
        guesses: list[DraftedToken] = []
        for is_coupled, group in groupby(rounds, key=lambda each: each.is_coupled):
            alike = list(group)
            own = probs[len(guesses) : len(guesses) + len(alike)]
            if is_coupled:
                guesses += draw_coupled(own, [each.coupling_key for each in alike])
            else:
                uniforms = [each.uniform for each in alike]
                guesses += draw_drafts(own, self._max_support, uniforms)
        return [each.take(guess) for each, guess in zip(rounds, guesses, strict=True)]

    def _scores(self, logits: torch.Tensor) -> torch.Tensor:
        """[n, V] -> [n, V]: a score for every token id of the sessions."""
        # Padding beyond the vocabulary has scores too, but no meaning to the target. It is not
        # cut off, since a prompt may hold it and the penalty then looks it up.
        if logits.shape[-1] == self._num_vocabulary_tokens:
            return logits
        known = logits.clone()
        known[:, self._num_vocabulary_tokens :] = -torch.inf
        return known


@dataclass(frozen=True, slots=True)
class ModelSession:
    """The drafts of one session."""

    proposer: ModelProposer
    sequence: CachedSequence
    opening: SessionOpen
    num_reused_tokens: int

    async def propose(self, request: SpeculateRound) -> tuple[Draft, RoundTimings]:
        room = self.proposer.info.max_model_len - request.position
        num_tokens = max(min(request.num_speculative_tokens, room), 0)
        opening = self.opening
        work = Speculation(self.sequence, request, opening.sampling, opening.mode, num_tokens)
        return await self.proposer.engine.run(work)

    def close(self) -> None:
        self.proposer.engine.discard(self.sequence)
