"""Drafts by what followed the last tokens most often in texts that the target wrote before.

Back-off n-grams, counted once (`forethought count`) and kept in a file of a few megabytes. They
know what the target tends to say, and nothing of this text but its last few tokens: what a lookup
in the text itself does not find, they still guess, in microseconds and without a model.

At temperature 0 the likeliest token is guessed, with certainty. Above, guesses are drawn from the
counted distribution: that way they stay with probability sum min(p, q), more than p of the
likeliest token, since the target too spreads its choice over many. A coupled session draws by the
noise that it shares with the target.

A draft ends before the estimated probability that all of it stays falls below a minimum. For each
guess that is the counted probability of the likeliest token, be it guessed or not: it is known
before anything is drawn, and drawn guesses stay about as often. A draft that
ended where a token turned out badly would no longer have the q that it reports.

The first guess may have a minimum of its own. A pass over two tokens takes hardly longer than one
over one, so where nobody else would guess, an unlikely guess is better than none.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from forethought.counts.table import CountsTable
from forethought.lookup.proposer import LookupProposer, LookupSession
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import (
    DraftedToken,
    Probabilities,
    VerificationMode,
    as_probabilities,
    coupled_guess,
)
from forethought.tier import ModelInfo, SessionOpen, SpeculateRound


class CountsProposer(LookupProposer):
    """Drafts from a table.

    Args:
        info: the vocabulary that the table is of, and the longest text.
        table: what was counted.
        min_prob: least estimated probability of a whole draft.
        max_sessions: most sessions open at a time.
        first_min_prob: of a draft of one token; None is the same.
    """

    name = "counts"

    def __init__(
        self,
        info: ModelInfo,
        table: CountsTable,
        min_prob: float,
        max_sessions: int = 256,
        first_min_prob: float | None = None,
    ) -> None:
        super().__init__(info, max_sessions)
        self.table = table
        self.min_prob = min_prob
        self.first_min_prob = min_prob if first_min_prob is None else first_min_prob

    def new_session(self, opening: SessionOpen) -> "CountsSession":
        return CountsSession(self, opening)


class CountsSession(LookupSession):
    """Looks the end of its log up."""

    def __init__(self, proposer: CountsProposer, opening: SessionOpen) -> None:
        super().__init__(proposer, opening)
        self._table = proposer.table
        self._min_prob = proposer.min_prob
        self._first_min_prob = proposer.first_min_prob
        self._sampling = opening.sampling

    def is_slow(self, request: SpeculateRound) -> bool:  # noqa: ARG002
        return False

    def draft_tokens(self, request: SpeculateRound, num_kept: int) -> Iterable[DraftedToken]:
        if self._sampling.temperature == 0:
            return super().draft_tokens(request, num_kept)
        return self._drawn(request)

    def guess(self, num_tokens: int, num_kept: int) -> Sequence[int]:  # noqa: ARG002
        """The likeliest path, as far as it is likely enough."""
        text = self._end()
        return self._table.continuation(text, num_tokens, self._min_prob) or (
            self._table.continuation(text, min(num_tokens, 1), self._first_min_prob)
        )

    def _drawn(self, request: SpeculateRound) -> Iterator[DraftedToken]:
        """A path that is drawn token after token."""
        randomness = KeyedRandomness(self._sampling.seed, request.round)
        text, likelihood, least = self._end(), 1.0, self._first_min_prob
        for position in range(request.position, request.position + request.num_speculative_tokens):
            found = self._table.distribution(text)
            if found is None:
                return
            token_ids, counted = found
            likelihood *= counted[0]
            if likelihood < least:
                return
            least = self._min_prob
            probs = _shaped(counted, self._sampling.temperature)
            if self.mode is VerificationMode.COUPLED:
                drawn = coupled_guess(_chosen(token_ids, probs, position, randomness))
            else:
                uniform = randomness.uniform(Stream.DRAFT, position)
                place = int(np.cumsum(probs).searchsorted(uniform, side="right"))
                drawn = DraftedToken(token_ids[min(place, len(probs) - 1)], token_ids, probs)
            yield drawn
            text.append(drawn.token_id)

    def _end(self) -> list[int]:
        return self.log[-self._table.max_context :].tolist()


def _shaped(counted: Sequence[float], temperature: float) -> Probabilities:
    """[M], q: what was counted at many temperatures, at one, and normalised."""
    probs = as_probabilities(counted) ** (1 / temperature)
    shaped: Probabilities = probs / probs.sum()
    return shaped


def _chosen(
    token_ids: Sequence[int], probs: Probabilities, position: int, randomness: KeyedRandomness
) -> int:
    """The token whose noise over its probability is least, as the target chooses its own."""
    waits = [randomness.exponential(position, token_id) for token_id in token_ids]
    return token_ids[int(np.argmin(as_probabilities(waits) / probs))]
