"""The next draft, made while the target verifies this one.

A draft tier with time to spare bets on how the round will end. The likeliest end is that all K
guesses are accepted, and that the bonus token is the one that the draft itself finds likeliest (in
a coupled session: the one that its own noise chooses). One pass makes that bonus token, K more make
the draft behind it. Where a pass over several sequences takes hardly longer than one over one,
further ends are worth a bet: a guess is rejected, and its runner-up takes its place. Each of those
is drafted on a sequence of its own, which shares the computed blocks of the session.

If a bet is won, the next request finds its draft made, or goes on where it is in the making. If all
are lost, the request goes the usual way, at most one pass later. Either way the answer is the same:
the draws of a draft are keyed by its own round, so it does not matter when they are drawn. And it
runs only when nobody waits for other work.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import ClassVar

from draft_service.speculation import Speculation
from forethought.engine.cache.sequence import CachedSequence
from forethought.engine.rows.filters import ShapedRows, row_contexts
from forethought.sampling.types import Draft, DraftedToken
from forethought.tier import SpeculateRound


class FullAcceptance:
    """The round after one that has just been drafted, should all of that be accepted.

    The guesses go on in the session's own sequence.

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
        """Tokens guessed so far, with the bonus token, which counts as used if the bet is won."""
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

    @property
    def forgone(self) -> DraftedToken | None:
        """The guess that was not made, where the model was too uncertain for it."""
        return self._next.forgone if self._next else None

    def begin(self) -> None:
        """Feeds the last guess, which drafting has left out, unless it ended for doubts: then the
        likeliest bonus token is known already."""
        forgone = self._last.forgone
        if forgone is None:
            self._last.feed(self._last.guesses[-1].token_id)
        else:
            self._go_on(forgone.support_token_ids[0])

    def take(self, guess: DraftedToken, *, is_confident: bool = True) -> Draft | None:
        """Adds the bonus token, or a guess behind it; returns the draft once it is whole."""
        if self._next is not None:
            return self._next.take(guess, is_confident=is_confident)
        self._go_on(guess.token_id)
        return None

    def _go_on(self, bonus_token_id: int) -> None:
        self._next = self._round_after(bonus_token_id)
        self._next.begin()

    def guesses_for(self, request: SpeculateRound) -> list[DraftedToken] | None:
        """What has been made for a round; None if it is another one that was drafted."""
        if self._next is None:
            return None
        if not is_same(request, self._next.request, self._next.request.committed_token_ids):
            return None
        return list(self._next.guesses)

    def _round_after(self, bonus_token_id: int) -> Speculation:
        last = self._last
        position = last.position + 1
        num_tokens = min(last.request.num_speculative_tokens, self._max_len - position)
        committed = [*(guess.token_id for guess in last.guesses), bonus_token_id]
        request = SpeculateRound(last.request.round + 1, position, committed, num_tokens)
        return Speculation(self.sequence, request, last.opening, num_tokens)


@dataclass(eq=False, slots=True, kw_only=True)
class Replacement(Speculation):
    """The round after one of which a guess is rejected, and its runner-up recovered."""

    is_ahead: ClassVar[bool] = True

    session: CachedSequence  # whose beginning this shares
    ending: Sequence[int]  # accepted guesses and the recovered token

    @property
    def num_made(self) -> int:
        """Tokens guessed so far."""
        return len(self.guesses)

    @property
    def is_whole(self) -> bool:
        """Whether all K guesses are made, so that the last of them is not fed."""
        return len(self.guesses) == self.num_tokens

    def begin(self) -> None:
        """Takes over what the session has computed of it."""
        start = self.request.position - len(self.ending)
        self.sequence.extend([*self.session.token_ids[:start], *self.ending])
        self.sequence.take_prefix()
        self.sequence.speculate(())

    def guesses_for(self, request: SpeculateRound) -> list[DraftedToken] | None:
        """What has been made for a round; None if it is another one that was drafted."""
        return list(self.guesses) if is_same(request, self.request, self.ending) else None


def replacements(
    last: Speculation, max_num: int, max_len: int, new_sequence: Callable[[], CachedSequence]
) -> list[Replacement]:
    """The likeliest ends of a round with a rejected guess, likeliest first.

    How likely they are is what the draft itself says: that the guesses before one are right, and
    that its runner-up is. A coupled draft does not say it.

    Args:
        last: the round, drafted.
        max_num: how many.
        max_len: of a sequence, tokens.
        new_sequence: makes an empty one.
    """
    probs = [guess.draft_prob or 0.0 for guess in last.guesses]
    reach = accumulate(probs[:-1], mul, initial=1.0)
    ends = [
        (so_far * prob, place, token_id)
        for place, (so_far, guess) in enumerate(zip(reach, last.guesses, strict=True))
        for prob, token_id in _runner_up(guess)
    ]
    bets = []
    for _, place, token_id in heapq.nlargest(max_num, ends):
        ending = [*(guess.token_id for guess in last.guesses[:place]), token_id]
        position = last.request.position + len(ending)
        num_tokens = min(last.request.num_speculative_tokens, max_len - position)
        request = SpeculateRound(last.request.round + 1, position, (), num_tokens)
        bets.append(
            Replacement(
                sequence=new_sequence(),
                request=request,
                opening=last.opening,
                num_tokens=num_tokens,
                session=last.sequence,
                ending=ending,
            )
        )
    return bets


def is_same(asked: SpeculateRound, drafted: SpeculateRound, ending: Sequence[int]) -> bool:
    """Whether a request is for the round that was drafted, after an ending of the last one."""
    return (
        (asked.round, asked.position) == (drafted.round, drafted.position)
        and len(asked.committed_token_ids) >= len(ending)
        and list(asked.committed_token_ids[-len(ending) :]) == list(ending)
    )


def _runner_up(guess: DraftedToken) -> list[tuple[float, int]]:
    """The likeliest token that was not guessed, and its q; none if q is one-hot or not known."""
    others = [
        (float(prob), token_id)
        for prob, token_id in zip(guess.draft_probs, guess.support_token_ids, strict=False)
        if token_id != guess.token_id
    ]
    return [max(others)] if others else []
