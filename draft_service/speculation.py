"""One round of one session in the draft's engine: K guesses, one pass each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.rows.filters import ShapedRows, row_contexts
from forethought.sampling.randomness import KeyedRandomness, Stream, coupling_key
from forethought.sampling.types import Draft, DraftedToken, LookaheadOutcome, VerificationMode
from forethought.tier import SessionOpen, SpeculateRound


class Bet(Protocol):
    """A round that was drafted before it was asked for, should the last one end in some way."""

    @property
    def sequence(self) -> CachedSequence:
        """Where it was drafted."""
        ...

    @property
    def num_made(self) -> int:
        """Tokens guessed so far."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether all K guesses are made, so that the last of them is not fed."""
        ...

    @property
    def forgone(self) -> DraftedToken | None:
        """The guess that was not made, where the model was too uncertain for it."""
        ...

    def guesses_for(self, request: SpeculateRound) -> list[DraftedToken] | None:
        """What has been made for a round; None if it is another one that was drafted."""
        ...


@dataclass(eq=False, slots=True)
class Speculation:
    """A draft that is being made.

    The last guess is not fed: the next round does that, if it stays. Only where the model stops of
    itself, it has been: that is how the model found out how uncertain it is.
    """

    num_logits: ClassVar[int] = 1
    is_ahead: ClassVar[bool] = False
    proposer: ClassVar[str] = "model"

    sequence: CachedSequence
    request: SpeculateRound
    opening: SessionOpen  # says how to sample
    num_tokens: int  # K
    bets: Sequence[Bet] = ()  # what was drafted ahead in the hope of this round
    guesses: list[DraftedToken] = field(default_factory=list)
    lookahead: LookaheadOutcome | None = None
    num_wasted_tokens: int = 0
    forgone: DraftedToken | None = None  # the guess that was not made, where the model stopped

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
        if self.bets and self._take_over():
            is_done = self.forgone or len(self.guesses) == self.num_tokens
            return self._draft() if is_done else None
        self.sequence.commit(self.request.position, self.request.committed_token_ids)
        self.sequence.speculate(())
        return None

    def take(self, guess: DraftedToken, *, is_confident: bool = True) -> Draft | None:
        """Adds a guess; returns the draft once it is whole.

        Args:
            guess: the next one.
            is_confident: whether the distribution that it was drawn from is worth a guess. If not,
                the draft ends here. Which token was drawn must have no part in that: a draft that
                ended where a drawn token turned out badly would not have the q that it reports.
        """
        if len(self.guesses) < self.num_tokens:
            if not is_confident:
                self.forgone = guess
                return self._draft()
            self.guesses.append(guess)
        if len(self.guesses) == self.num_tokens:
            return self._draft()
        self.feed(guess.token_id)
        return None

    def feed(self, token_id: int) -> None:
        """Puts a guess into the log, for the pass that makes the next one."""
        self.sequence.guess(token_id)

    def _take_over(self) -> bool:
        """Whether this round was drafted ahead; then it goes on where that is."""
        self.lookahead = LookaheadOutcome.MISS
        self.num_wasted_tokens = sum(bet.num_made for bet in self.bets)
        for bet in self.bets:
            made = bet.guesses_for(self.request)
            if made is not None:
                self.lookahead = LookaheadOutcome.HIT
                self.guesses = made[: self.num_tokens]
                self.forgone = bet.forgone if len(made) < self.num_tokens else None
                self.num_wasted_tokens -= len(self.guesses) + (bet.num_made - len(made))
                if bet.sequence is not self.sequence:
                    self.sequence.swap(bet.sequence)
                if bet.is_whole and len(made) < self.num_tokens:
                    self.feed(made[-1].token_id)
                return True
        return False

    def _draft(self) -> Draft:
        return Draft(tuple(self.guesses), self.proposer, self.lookahead, self.num_wasted_tokens)
