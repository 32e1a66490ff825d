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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from forethought.counts.table import CountsTable
from forethought.sampling.randomness import KeyedRandomness, Stream
from forethought.sampling.types import (
    DraftedToken,
    Probabilities,
    VerificationMode,
    as_probabilities,
    certain_guess,
    coupled_guess,
)
from orchestrator.loop.session import Session


@dataclass(frozen=True, slots=True)
class CountsLookup:
    """Drafts from a table. It keeps nothing of a session, and is its own session with each."""

    name = "counts"

    table: CountsTable
    """What was counted."""
    min_prob: float = 0.3
    """Least estimated probability of a whole draft."""
    first_min_prob: float = 0.3
    """The same of a draft of one token."""

    def open(self, session: Session) -> "CountsLookup":  # noqa: ARG002
        return self

    def is_slow(self, session: Session) -> bool:  # noqa: ARG002
        return False

    def draft(self, session: Session, num_tokens: int) -> Sequence[DraftedToken]:
        """A path, as far as it is likely enough: the likeliest at temperature 0, else a drawn
        one."""
        text = list(session.token_ids[-self.table.max_context :])
        if session.sampling.temperature == 0:
            guesses = self._likeliest(text, num_tokens)
            return [certain_guess(token_id, session.mode) for token_id in guesses]
        return list(self._drawn(session, text, num_tokens))

    def close(self) -> None:
        """Nothing is held."""

    def _likeliest(self, text: Sequence[int], num_tokens: int) -> Sequence[int]:
        return self.table.continuation(text, num_tokens, self.min_prob) or (
            self.table.continuation(text, 1, self.first_min_prob)
        )

    def _drawn(self, session: Session, text: list[int], num_tokens: int) -> Iterator[DraftedToken]:
        """Token after token; adds them to the text."""
        randomness = session.randomness
        likelihood, least = 1.0, self.first_min_prob
        for position in range(session.position, session.position + num_tokens):
            found = self.table.distribution(text)
            if found is None:
                return
            token_ids, counted = found
            likelihood *= counted[0]
            if likelihood < least:
                return
            least = self.min_prob
            probs = _shaped(counted, session.sampling.temperature)
            if session.mode is VerificationMode.COUPLED:
                drawn = coupled_guess(_chosen(token_ids, probs, position, randomness))
            else:
                uniform = randomness.uniform(Stream.DRAFT, position)
                place = int(np.cumsum(probs).searchsorted(uniform, side="right"))
                drawn = DraftedToken(token_ids[min(place, len(probs) - 1)], token_ids, probs)
            yield drawn
            text.append(drawn.token_id)


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
