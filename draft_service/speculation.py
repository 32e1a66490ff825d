"""One round of one session in the draft's engine: K guesses, one pass each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from forethought.engine.filters import ShapedRows, row_contexts
from forethought.engine.sequence import CachedSequence
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.types import Draft, DraftedToken, LookaheadOutcome, VerificationMode
from forethought.tier import SessionOpen, SpeculateRound

if TYPE_CHECKING:
    from draft_service.lookahead import Lookahead


@dataclass(eq=False, slots=True)
class Speculation:
    """A draft that is being made.

    The last guess is not fed: the next round does that, if it stays.
    """

    num_logits: ClassVar[int] = 1
    is_ahead: ClassVar[bool] = False
    proposer: ClassVar[str] = "model"

    sequence: CachedSequence
    request: SpeculateRound
    opening: SessionOpen  # says how to sample
    num_tokens: int  # K
    ahead: Lookahead | None = None  # what was drafted in the hope of this round
    guesses: list[DraftedToken] = field(default_factory=list)
    lookahead: LookaheadOutcome | None = None
    num_wasted_tokens: int = 0

    @property
    def rows(self) -> ShapedRows:
        """How its row of logits becomes q."""
        guessed = [guess.token_id for guess in self.guesses]
        contexts = row_contexts(self.opening.sampling, self.sequence, guessed, num_rows=1)
        return ShapedRows(1, self.opening.sampling, contexts)

    @property
    def is_coupled(self) -> bool:
        """Whether guesses are chosen by noise that the target shares."""
        return self.opening.mode is VerificationMode.COUPLED

    @property
    def position(self) -> int:
        """Where the next guess goes."""
        return self.request.position + len(self.guesses)

    @property
    def uniform(self) -> float:
        """The draw that chooses the next guess."""
        randomness = KeyedRandomness(self.opening.sampling.seed, self.request.round)
        return randomness.uniform(Stream.DRAFT, self.position)

    @property
    def coupling_key(self) -> int:
        """What the shared noise for the next guess is keyed by."""
        return coupling_key(self.opening.sampling.seed, self.position)

    def begin(self) -> Draft | None:
        """Takes over what was drafted ahead, or rolls back to the committed tokens.

        Returns:
            The draft, if all of it was made ahead.

        Raises:
            CachePositionMismatchError: the round starts beyond what the sequence knows.
        """
        if self.ahead is not None and self._take_over(self.ahead):
            return self._draft() if len(self.guesses) == self.num_tokens else None
        self.sequence.commit(self.request.position, self.request.committed_token_ids)
        self.sequence.speculate(())
        return None

    def take(self, guess: DraftedToken) -> Draft | None:
        """Adds a guess; returns the draft once it is whole."""
        if len(self.guesses) < self.num_tokens:
            self.guesses.append(guess)
        if len(self.guesses) == self.num_tokens:
            return self._draft()
        self.feed(guess.token_id)
        return None

    def feed(self, token_id: int) -> None:
        """Puts a guess into the log, for the pass that makes the next one."""
        self.sequence.guess(token_id)

    def _take_over(self, ahead: Lookahead) -> bool:
        """Whether the round is the one that was drafted ahead; then this goes on where that is."""
        made = ahead.guesses_for(self.request)
        if made is None:
            self.lookahead = LookaheadOutcome.MISS
            self.num_wasted_tokens = ahead.num_made
            return False
        self.lookahead = LookaheadOutcome.HIT
        self.guesses = made[: self.num_tokens]
        self.num_wasted_tokens = len(made) - len(self.guesses)
        if ahead.is_whole and len(made) < self.num_tokens:
            self.feed(made[-1].token_id)
        return True

    def _draft(self) -> Draft:
        return Draft(tuple(self.guesses), self.proposer, self.lookahead, self.num_wasted_tokens)
