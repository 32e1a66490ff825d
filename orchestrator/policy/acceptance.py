"""How likely drafted tokens are to be accepted, learned round by round.

A guess counts only if all before it were accepted, so each place of a draft has a rate of its own:
of the rounds that came so far, how many took one more. Old rounds fade, since texts change. Where
little has been seen, the rate is that of a *prior*: for a session what the deployment saw, for the
deployment optimism, since a draft that is never tried is never found to be good.

A proposer that looks texts up often has nothing to offer. That is learned separately: a token that
was not drafted costs no verification, and says nothing of those that will be.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_DEPLOYMENT_MEMORY, _SESSION_MEMORY = 150.0, 24.0
"""Rounds after which an observation weighs 1/e."""
_OPTIMISM = 0.8
"""Rate of a place of which nobody knows anything."""


class DecayingRates:
    """A probability of success for each place, given success at all before; what was seen fades.

    Args:
        prior: what to believe of the first n places while nothing has been seen.
        prior_weight: observations that it takes to be believed as much as the prior.
        memory: rounds after which an observation weighs 1/e.
    """

    def __init__(
        self, prior: Callable[[int], Sequence[float]], prior_weight: float, memory: float
    ) -> None:
        self._prior = prior
        self._prior_weight = prior_weight
        self._fading = 1 - 1 / memory
        self._hits: list[float] = []
        self._trials: list[float] = []

    def observe(self, num_trials: int, num_hits: int) -> None:
        """Places 0 to `num_trials` - 1 were tried, and all below `num_hits` succeeded."""
        missing = [0.0] * (num_trials - len(self._trials))
        self._hits += missing
        self._trials += missing
        for place in range(num_trials):
            self._hits[place] = self._hits[place] * self._fading + (place < num_hits)
            self._trials[place] = self._trials[place] * self._fading + 1

    def fade(self, num_rounds: int) -> None:
        """Lets rounds pass in which nothing was tried; they make old a quarter as fast."""
        fading = self._fading ** (0.25 * num_rounds)
        self._hits = [hits * fading for hits in self._hits]
        self._trials = [trials * fading for trials in self._trials]

    def rates(self, num_places: int) -> list[float]:
        """[num_places] the probabilities."""
        rates: list[float] = []
        weight = self._prior_weight
        for place, prior in enumerate(self._prior(num_places)):
            hits, trials = 0.0, 0.0
            if place < len(self._trials):
                hits, trials = self._hits[place], self._trials[place]
            # Places are alike: what the one before has taught says something of this one too.
            believed = (prior + rates[-1]) / 2 if rates else prior
            rates.append((hits + weight * believed) / (trials + weight))
        return rates


class Acceptance:
    """What becomes of drafts.

    Args:
        prior: the deployment's, for a session; None for the deployment.
    """

    def __init__(self, prior: "Acceptance | None" = None) -> None:
        if prior is None:
            memory = _DEPLOYMENT_MEMORY
            self.accepted = DecayingRates(lambda n: [_OPTIMISM] * n, 2, memory)
            self.drafted = DecayingRates(lambda n: [1.0] * n, 2, memory)
        else:
            self.accepted = DecayingRates(prior.accepted.rates, 6, _SESSION_MEMORY)
            self.drafted = DecayingRates(prior.drafted.rates, 3, _SESSION_MEMORY)

    def observe(self, num_asked: int, num_drafted: int, num_accepted: int) -> None:
        """A round asked for so many tokens, got a draft, and kept a part of it."""
        self.drafted.observe(min(num_drafted + 1, num_asked), num_drafted)
        self.accepted.observe(min(num_accepted + 1, num_drafted), num_accepted)

    def fade(self, num_rounds: int) -> None:
        """So many rounds asked for nothing: what was seen before counts less."""
        self.drafted.fade(num_rounds)
        self.accepted.fade(num_rounds)

    def expect(self, max_k: int) -> "Expectation":
        """What to expect of drafts of up to so many tokens."""
        lengths, tokens = [0.0], [1.0]
        drafted = accepted = 1.0
        for offer, acceptance in zip(
            self.drafted.rates(max_k), self.accepted.rates(max_k), strict=True
        ):
            drafted *= offer
            accepted *= offer * acceptance
            lengths.append(lengths[-1] + drafted)
            tokens.append(tokens[-1] + accepted)
        return Expectation(lengths, tokens)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a round brings on average, for each K that is asked for."""

    lengths: Sequence[float]  # [max_k + 1] tokens drafted
    tokens: Sequence[float]  # [max_k + 1] tokens committed, the recovered or bonus one included
