"""What a table would have guessed right in texts that were not counted.

A text stands for the target: round after round a draft is compared with how the text goes on, and a
guess counts as accepted if it is the next token. In a text at temperature 0 that is what rejection
sampling does with a certain guess; in a sampled one it happens as often.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forethought.counts.corpus import Corpus

Guesser = Callable[[Sequence[int]], Sequence[int]]
"""Drafts after a text."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Sums over all rounds."""

    num_rounds: int = 0
    num_draft_tokens: int = 0
    num_accepted_tokens: int = 0

    @property
    def acceptance_rate(self) -> float | None:
        """Accepted over drafted tokens; None when nothing was drafted."""
        if not self.num_draft_tokens:
            return None
        return self.num_accepted_tokens / self.num_draft_tokens

    @property
    def mean_acceptance_length(self) -> float | None:
        """Tokens a round, the one that ends it included; None without a round."""
        return 1 + self.num_accepted_tokens / self.num_rounds if self.num_rounds else None


def replay(corpus: Corpus, draft: Guesser) -> Replay:
    """Drafts after every committed beginning of every answer."""
    rounds = drafted = accepted = 0
    for sample in range(len(corpus)):
        start, end = corpus.starts[sample : sample + 2].tolist()
        text = corpus.token_ids[start:end].tolist()
        position = int(corpus.answer_starts[sample]) - start
        while position < len(text):
            guesses = draft(text[:position])[: len(text) - position]
            right = 0
            while right < len(guesses) and guesses[right] == text[position + right]:
                right += 1
            rounds, drafted, accepted = rounds + 1, drafted + len(guesses), accepted + right
            position += right + 1
    return Replay(rounds, drafted, accepted)
