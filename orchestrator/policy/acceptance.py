"""How many tokens a draft brings, learned round by round.

A guess counts only if all before it are accepted, so each place of a draft has a rate of its own:
of the rounds that reach it, the share that accepts it. Old rounds fade, since texts change. A place
that has hardly been reached is like the one before it. The first one is like that of all sessions,
and theirs begins with optimism: a draft that is never tried is never found to be good.

A proposer that looks texts up offers all that it is asked for or, often, nothing, which costs no
verification. So the share of rounds that it drafts in is learned apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

DEPLOYMENT_MEMORY, MEMORY = 100.0, 24.0
"""Rounds after which an observation weighs 1/e: of a deployment's texts, and of everything else."""
OPTIMISM = 0.8
"""Rate of a place that nobody has reached."""
PRIOR_WEIGHT = 4.0
"""Rounds in which a place's own rate comes to weigh as much as what was believed before."""


class _Rates:
    """The share of rounds that get past each place, of those that reach it.

    Args:
        prior: what to believe of the first place while nothing has been seen.
        later: the same of all others; None: what is believed of the one before.
    """

    def __init__(self, prior: "_Rates | float", later: float | None = None) -> None:
        self._prior, self._later = prior, later
        self._fading = 1 - 1 / (DEPLOYMENT_MEMORY if isinstance(prior, float) else MEMORY)
        self._seen: list[tuple[float, float]] = []  # of each place: rounds past it, rounds

    def observe(self, num_trials: int, num_hits: int) -> None:
        """A round reaches places 0 to `num_trials` - 1, and gets past all below `num_hits`."""
        self._seen += [(0.0, 0.0)] * (num_trials - len(self._seen))
        for place, (hits, trials) in enumerate(self._seen):
            is_hit, is_trial = place < num_hits, place < num_trials
            self._seen[place] = hits * self._fading + is_hit, trials * self._fading + is_trial

    def rates(self, num_places: int) -> list[float]:
        """[num_places] the rates."""
        believed = self._prior if isinstance(self._prior, float) else self._prior.rates(1)[0]
        rates: list[float] = []
        for place in range(num_places):
            hits, trials = self._seen[place] if place < len(self._seen) else (0.0, 0.0)
            rates.append((hits + PRIOR_WEIGHT * believed) / (trials + PRIOR_WEIGHT))
            believed = rates[-1] if self._later is None else self._later
        return rates


class Acceptance:
    """What becomes of drafts.

    Args:
        prior: the deployment's, for a session; None for the deployment.
    """

    def __init__(self, prior: "Acceptance | None" = None) -> None:
        self.accepted: _Rates = _Rates(prior.accepted if prior else OPTIMISM)
        self.drafted: _Rates = _Rates(prior.drafted if prior else 1.0, 1.0)

    def observe(self, num_asked: int, num_drafted: int, num_accepted: int) -> None:
        """A round asks for so many tokens, gets a draft, and keeps a part of it."""
        self.drafted.observe(min(num_drafted + 1, num_asked), num_drafted)
        self.accepted.observe(min(num_accepted + 1, num_drafted), num_accepted)

    def expect(self, max_k: int) -> "Expectation":
        """What drafts of up to so many tokens bring."""
        drafted = list(accumulate(self.drafted.rates(max_k), mul))
        accepted = accumulate(self.accepted.rates(max_k), mul)
        tokens = accumulate(map(mul, drafted, accepted), initial=1.0)
        return Expectation(list(accumulate(drafted, initial=0.0)), list(tokens))


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a round brings on average, for each K that is asked for."""

    lengths: Sequence[float]  # [max_k + 1] tokens drafted
    tokens: Sequence[float]  # [max_k + 1] tokens committed, the recovered or bonus one included

    @classmethod
    def mean(cls, expectations: "Sequence[Expectation]") -> "Expectation":
        """Of some sessions."""
        num = len(expectations)
        lengths = zip(*(each.lengths for each in expectations), strict=True)
        tokens = zip(*(each.tokens for each in expectations), strict=True)
        return cls([sum(each) / num for each in lengths], [sum(each) / num for each in tokens])
