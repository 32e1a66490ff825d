"""How likely drafted tokens are to be accepted, learned round by round.

A guess counts only if all before it were accepted, so each place of a draft has a rate of its own:
of the rounds that came so far, how many took one more. Old rounds fade, since texts change. Where
little has been seen, the rate is that of a *prior*: for a session what the deployment saw, for the
deployment optimism, since a draft that is never tried is never found to be good.

A proposer that looks texts up often has nothing to offer. That is learned separately: a token that
was not drafted costs no verification, and says nothing of those that will be.
"""

from collections.abc import Callable

_MEMORY = 64.0
"""Rounds after which an observation weighs 1/e."""
_OPTIMISM = 0.8
"""Rate of a place of which nobody knows anything."""

Rate = Callable[[int], float]
"""From a place in the draft to a probability."""


class DecayingRates:
    """A probability for each place, from observations that fade.

    Args:
        prior: what to believe of a place that has not been seen.
        prior_weight: observations that it takes to believe them as much as the prior.
    """

    def __init__(self, prior: Rate, prior_weight: float) -> None:
        self._prior = prior
        self._prior_weight = prior_weight
        self._hits: list[float] = []
        self._trials: list[float] = []

    def observe(self, num_trials: int, num_hits: int) -> None:
        """Places 0 to `num_trials` - 1 were tried, and all below `num_hits` succeeded."""
        missing = num_trials - len(self._trials)
        self._hits += [0.0] * missing
        self._trials += [0.0] * missing
        for place in range(num_trials):
            fading = 1 - 1 / _MEMORY
            self._hits[place] = self._hits[place] * fading + (place < num_hits)
            self._trials[place] = self._trials[place] * fading + 1

    def rate(self, place: int) -> float:
        """The probability of success at a place, given success at all before."""
        hits, trials = 0.0, 0.0
        if place < len(self._trials):
            hits, trials = self._hits[place], self._trials[place]
        prior = self._prior(place)
        if place:
            # Places are alike: what the one before has taught says something of this one too.
            prior = (prior + self.rate(place - 1)) / 2
        return (hits + self._prior_weight * prior) / (trials + self._prior_weight)


class Acceptance:
    """What becomes of drafts.

    Args:
        prior: the deployment's, for a session; None for the deployment.
    """

    def __init__(self, prior: "Acceptance | None" = None) -> None:
        if prior is None:
            self.accepted = DecayingRates(lambda _: _OPTIMISM, prior_weight=2)
            self.drafted = DecayingRates(lambda _: 1.0, prior_weight=2)
        else:
            self.accepted = DecayingRates(prior.accepted.rate, prior_weight=6)
            self.drafted = DecayingRates(prior.drafted.rate, prior_weight=3)

    def observe(self, num_asked: int, num_drafted: int, num_accepted: int) -> None:
        """A round asked for so many tokens, got a draft, and kept a part of it."""
        self.drafted.observe(min(num_drafted + 1, num_asked), num_drafted)
        self.accepted.observe(min(num_accepted + 1, num_drafted), num_accepted)

    def expected_lengths(self, max_k: int) -> list[float]:
        """[max_k + 1] drafted tokens to be expected, for each K that is asked for."""
        lengths, reach = [0.0], 1.0
        for place in range(max_k):
            reach *= self.drafted.rate(place)
            lengths.append(lengths[-1] + reach)
        return lengths

    def expected_tokens(self, max_k: int) -> list[float]:
        """[max_k + 1] tokens that a round commits, the recovered or bonus one included."""
        tokens, reach = [1.0], 1.0
        for place in range(max_k):
            reach *= self.drafted.rate(place) * self.accepted.rate(place)
            tokens.append(tokens[-1] + reach)
        return tokens
