"""The next draft, made while the target verifies this one.

A draft tier with time to spare bets on the likeliest end of the round: all K guesses are accepted,
and the bonus token is the one that the draft itself finds likeliest (in a coupled session: the one
that its own noise chooses). One pass makes that bonus token, K more make the draft behind it.

If the bet is won, the next request finds its draft made, or goes on where it is in the making. If
it is lost, the request goes the usual way, at most one pass later. Either way the answer is the
same: the draws of a draft are keyed by its own round, so it does not matter when they are drawn.
Work that nobody asked for yet runs only when nobody waits for other work.
"""

from draft_service.speculation import Speculation
from forethought.engine.filters import ShapedRows, row_contexts
from forethought.engine.sequence import CachedSequence
from forethought.sampling.types import Draft, DraftedToken
from forethought.tier import SpeculateRound


class Lookahead:
    """The round after one that has just been drafted, should all of that be accepted.

    Args:
        last: the round, drafted.
        max_len: of the sequence, tokens.
    """

    num_logits = 1
    is_ahead = True

    def __init__(self, last: Speculation, max_len: int) -> None:
        self._last = last
        self._max_len = max_len
        self._next: Speculation | None = None  # once the bonus token is guessed

    @staticmethod
    def has_room(last: Speculation, max_len: int) -> bool:
        """Whether there can be a round after it."""
        return bool(last.guesses) and last.position + 1 < max_len

    @property
    def sequence(self) -> CachedSequence:
        return self._last.sequence

    @property
    def num_made(self) -> int:
        """Tokens guessed so far, the bonus token included."""
        return 1 + len(self._next.guesses) if self._next else 0

    @property
    def is_whole(self) -> bool:
        """Whether all K guesses are made, so that the last of them is not fed."""
        return self._next is not None and len(self._next.guesses) == self._next.num_tokens

    @property
    def rows(self) -> ShapedRows:
        """How its row of logits becomes q."""
        if self._next is not None:
            return self._next.rows
        guessed = [guess.token_id for guess in self._last.guesses]
        sampling = self._last.opening.sampling
        return ShapedRows(1, sampling, row_contexts(sampling, self.sequence, guessed, num_rows=1))

    @property
    def is_coupled(self) -> bool:
        """Whether guesses are chosen by noise that the target shares."""
        return self._last.is_coupled

    @property
    def uniform(self) -> float:
        """The draw that chooses the next guess. Below all: the likeliest, for the bonus token."""
        return self._next.uniform if self._next else 0.0

    @property
    def coupling_key(self) -> int:
        """What the shared noise for the next guess is keyed by."""
        return (self._next or self._last).coupling_key

    def begin(self) -> None:
        """Feeds the last guess, which drafting has left out."""
        self._last.feed(self._last.guesses[-1].token_id)

    def take(self, guess: DraftedToken) -> Draft | None:
        """Adds the bonus token, or a guess behind it; returns the draft once it is whole."""
        if self._next is not None:
            return self._next.take(guess)
        self._next = self._round_after(guess.token_id)
        self._next.begin()
        return None

    def guesses_for(self, request: SpeculateRound) -> list[DraftedToken] | None:
        """What has been made for a round; None if it is another one that was drafted."""
        if self._next is None:
            return None
        bet = self._next.request
        committed = list(request.committed_token_ids)[-len(bet.committed_token_ids) :]
        is_won = (bet.round, bet.position, bet.committed_token_ids) == (
            request.round,
            request.position,
            committed,
        )
        return list(self._next.guesses) if is_won else None

    def _round_after(self, bonus_token_id: int) -> Speculation:
        last = self._last
        position = last.position + 1
        num_tokens = min(last.request.num_speculative_tokens, self._max_len - position)
        committed = [*(guess.token_id for guess in last.guesses), bonus_token_id]
        request = SpeculateRound(last.request.round + 1, position, committed, num_tokens)
        return Speculation(self.sequence, request, last.opening, num_tokens)
