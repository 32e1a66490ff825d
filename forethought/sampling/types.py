"""The words of speculative decoding as values.

- A *draft* is a run of K guessed tokens, each with the distribution q it was drawn from.
- The *evidence* is what the target says of a draft: its distribution p at K + 1 positions,
  reduced to what exact rejection sampling needs.
- The *outcome* is what rejection sampling makes of both: *accepted* tokens, then one
  *recovered* token (from the residual, after a rejection) or one *bonus* token (from p,
  after K acceptances). Every round ends with exactly one of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from forethought.sampling.hidden_states import HiddenStates

Probabilities = npt.NDArray[np.float64]
"""Shape [M]: one probability for each token of a support."""

_NO_PROBABILITIES: Probabilities = np.empty(0)
_CERTAIN: Probabilities = np.ones(1)


class VerificationMode(Enum):
    """How a round is judged. The output is distributed as the target's in each mode."""

    REJECTION = "rejection"  # guess by guess: `rejection.py`
    BLOCK = "block"  # beginnings of the draft at once: `block.py`
    COUPLED = "coupled"  # by noise that draft and target share: `coupled.py`


class LookaheadOutcome(Enum):
    """What became of a draft that was made ahead."""

    HIT = "hit"  # the round ended as expected, and its draft was there or under way
    MISS = "miss"  # it ended otherwise


class TokenOrigin(Enum):
    """How a token came to be part of the output."""

    ACCEPTED = "accepted"
    RECOVERED = "recovered"
    BONUS = "bonus"


@dataclass(frozen=True, slots=True)
class DraftedToken:
    """A guess with the whole of its distribution q, which is zero outside the support.

    A coupled guess comes without: there only the guess counts.
    """

    token_id: int
    support_token_ids: Sequence[int]  # [M], distinct, holds token_id
    draft_probs: Probabilities  # [M], q over the support, sums to 1; [0] if coupled

    @property
    def draft_prob(self) -> float | None:
        """q of the guess itself (DP); None if coupled."""
        if not len(self.draft_probs):
            return None
        return float(self.draft_probs[self.support_token_ids.index(self.token_id)])


def coupled_guess(token_id: int) -> DraftedToken:
    """A guess without a distribution."""
    return DraftedToken(token_id, (token_id,), _NO_PROBABILITIES)


def certain_guess(token_id: int, mode: VerificationMode) -> DraftedToken:
    """A guess that was not drawn: q is 1 there. In a coupled session only the guess counts."""
    if mode is VerificationMode.COUPLED:
        return coupled_guess(token_id)
    return DraftedToken(token_id, (token_id,), _CERTAIN)


@dataclass(frozen=True, slots=True)
class Draft:
    """Step 1, speculation: K guessed tokens. K = 0 is plain decoding."""

    tokens: tuple[DraftedToken, ...] = ()
    proposer: str = ""  # which one made it, such as "model" or "ngram"
    lookahead: LookaheadOutcome | None = None  # None: nothing was drafted ahead
    num_wasted_tokens: int = 0  # drafted ahead since the last draft, for nothing

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def token_ids(self) -> list[int]:
        return [token.token_id for token in self.tokens]


@dataclass(frozen=True, slots=True)
class PositionLogprobs:
    """Natural logarithms of the model's own probabilities, before any shaping."""

    support_logprobs: Sequence[float]  # [M]
    tail_token_logprob: float
    top_token_ids: Sequence[int]  # [n], best first
    top_logprobs: Sequence[float]  # [n]


@dataclass(frozen=True, slots=True)
class PositionEvidence:
    """The target distribution p at one position: all of it on the support of q, and one sample
    of the rest.

    With an empty support the tail is all of p, and the tail token a sample of p.
    """

    target_probs: Probabilities  # [M], p over the support
    tail_mass: float  # p outside the support; 1 - sum(target_probs) without its cancellation
    tail_token_id: int  # drawn from p restricted to the outside; means nothing if tail_mass is 0
    tail_token_prob: float  # p of that token, not renormalised
    greedy_token_id: int  # argmax p
    logprobs: PositionLogprobs | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Step 2, parallel verification: K + 1 positions, the last one with an empty support."""

    positions: tuple[PositionEvidence, ...]
    hidden_states: HiddenStates | None = None  # of these positions and any before, if asked for


@dataclass(frozen=True, slots=True)
class OutputToken:
    """A token that rejection sampling let through or put in."""

    token_id: int
    origin: TokenOrigin
    draft_prob: float | None  # q (DP); only for accepted tokens
    target_prob: float  # p (TP)
    logprob: float | None = None  # natural logarithm of the model's own probability
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Step 3, rejection sampling: the accepted tokens and one recovered or bonus token."""

    tokens: tuple[OutputToken, ...]

    @property
    def num_accepted_tokens(self) -> int:
        return len(self.tokens) - 1

    @property
    def final(self) -> OutputToken:
        """The recovered or bonus token that ends the round."""
        return self.tokens[-1]


def as_probabilities(values: Sequence[Any] | npt.NDArray[Any]) -> Probabilities:
    """`values` as float64, shape [M]."""
    return np.asarray(values, dtype=np.float64)
