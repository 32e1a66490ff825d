"""What a round of speculation costs, learned from what tiers and clock say.

Two curves are expected before anything is seen: the time of a forward pass by its tokens, which
tiers measure when they start, and from it the time of a draft by its length. What is seen then
corrects them, each size by itself. A size that was never seen is corrected as the nearest one that
was: a slow machine is slow for all, and a measurement at start may have been disturbed. Where what
is seen is far from what is expected, twice and alike, the expectation was no measurement of this
machine at all, and is dropped at once.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

from forethought.tier import PassCost

_LEAST_WEIGHT = 0.15
"""Of an observation, once a size has been seen often; the first one counts half."""
_LEAST_WEIGHT_BESIDE_DRIFT = 0.05
"""The same where a drift takes up what all sizes have in common."""
_DRIFT_WEIGHT = 0.15
_SEEN_TO_DRIFT = 6.0
"""Observations of a size until it says something of the machine, and not of itself."""
_MAX_SURPRISE = 1.0
"""Of an observation: the logarithm of its ratio to what was expected is cut to this."""

_GROSS = math.log(8)
"""Of a surprise that is no noise."""
_ALIKE = math.log(2)
"""By which two gross observations may differ and still bear each other out."""
_TO_BELIEVE = 2.0
"""Gross observations in a row that are believed."""


class Drift:
    """How much slower a machine was than it usually is, when it was seen last.

    Others may use it too, for seconds or for minutes. That is the same for things of all sizes,
    also for those that are not seen at the time.
    """

    def __init__(self) -> None:
        self.log_factor = 0.0


class Correction:
    """How much longer things of each size take than expected.

    Args:
        prior: what to believe while nothing has been seen; None: that all is as expected.
        drift: of the machine; None: there is nothing that all sizes have in common.
        tells_drift: whether these things say how fast the machine is. Those that may be slow for a
            reason of their own do not.
    """

    def __init__(
        self,
        prior: "Correction | None" = None,
        drift: Drift | None = None,
        *,
        tells_drift: bool = False,
    ) -> None:
        self._prior = prior
        self._drift = drift
        self._tells_drift = tells_drift
        self._log_factors: dict[int, float] = {}
        self._num_seen: dict[int, float] = {}
        self._gross: dict[int, tuple[float, float]] = {}  # the first in a row, and how many

    def observe(
        self,
        size: int,
        expected: float,
        actual: float,
        weight: float = 1.0,
        *,
        is_measured: bool = True,
    ) -> None:
        """Something of a size took `actual` where `expected`, uncorrected, was expected.

        Args:
            weight: of the observation. Of n sessions that share a pass, all report it.
            is_measured: False where nobody waited for the end: it takes `actual` at least, and
                something may have been wrong that was not its cost.
        """
        if expected <= 0 or actual <= 0:
            return
        known = self._log_factor(size)
        drift = self._drift.log_factor if self._drift else 0.0
        seen_factor = math.log(actual / expected) - drift
        surprise = seen_factor - known
        if is_measured and self._is_believed(size, seen_factor, surprise, weight):
            self._log_factors[size] = seen_factor
            return
        surprise = min(max(surprise, -_MAX_SURPRISE), _MAX_SURPRISE)
        seen = self._num_seen[size] = self._num_seen.get(size, 0.0) + weight
        least_weight = _LEAST_WEIGHT
        if self._drift and self._tells_drift:
            least_weight = _LEAST_WEIGHT_BESIDE_DRIFT
            if seen > _SEEN_TO_DRIFT:
                self._drift.log_factor += weight * _DRIFT_WEIGHT * surprise
        gain = weight * max(least_weight, 1 / (1 + seen))
        self._log_factors[size] = known + gain * surprise

    def _is_believed(self, size: int, seen: float, surprise: float, weight: float) -> bool:
        """Whether something as far from what is expected was seen just before."""
        if abs(surprise) < _GROSS:
            self._gross.pop(size, None)
            return False
        first, num_seen = self._gross.get(size, (seen, 0.0))
        if abs(seen - first) > _ALIKE:
            first, num_seen = seen, 0.0
        self._gross[size] = (first, num_seen + weight)
        return num_seen + weight > _TO_BELIEVE - 1e-6

    def forget(self, share: float) -> None:
        """Goes back a part of the way to what was expected before anything was seen, where that was
        faster: what has been slow may be fast again, and what has been fast was measured wrong."""
        for size, log_factor in self._log_factors.items():
            if log_factor > 0:
                self._log_factors[size] = log_factor * (1 - share)

    def factor(self, size: int) -> float:
        """What to multiply an expectation with."""
        drift = self._drift.log_factor if self._drift else 0.0
        return math.exp(self._log_factor(size) + drift)

    def _log_factor(self, size: int) -> float:
        factors = self._log_factors
        if not factors:
            return self._prior._log_factor(size) if self._prior else 0.0  # noqa: SLF001
        nearest = size if size in factors else min(factors, key=lambda each: abs(each - size))
        return factors[nearest]


class PassCosts:
    """The time of a forward pass by the number of its tokens, seconds.

    Args:
        measured: what the tier measured when it started, smallest first. Empty: a pass is expected
            to take a millisecond, and a thirtieth of that more for each further token, until it is
            seen.
        like: other passes of the same tier, to be taken for these until one has been seen.
        drift: of the machine, shared with its other passes.
        tells_drift: whether these passes say how fast the machine is.
    """

    def __init__(
        self,
        measured: Sequence[PassCost],
        like: "PassCosts | None" = None,
        drift: Drift | None = None,
        *,
        tells_drift: bool = False,
    ) -> None:
        known = measured or (PassCost(1, 1_000_000), PassCost(31, 2_000_000))
        self._sizes = [cost.num_tokens for cost in known]
        self._seconds = [cost.forward_ns / 1e9 for cost in known]
        self._correction: Correction = Correction(
            like._correction if like else None,  # noqa: SLF001
            drift,
            tells_drift=tells_drift,
        )

    def observe(self, num_tokens: int, seconds: float, num_passes: float = 1.0) -> None:
        """A pass over so many tokens took so long.

        Args:
            num_tokens: of all sessions that share it.
            seconds: of the pass.
            num_passes: for which this word stands. Of n sessions that share one, all give theirs.
        """
        expected = self._expected(num_tokens)
        self._correction.observe(_size(num_tokens), expected, seconds, num_passes)

    def estimate(self, num_tokens: float) -> float:
        """How long a pass over so many tokens takes; between two sizes, in proportion."""
        return self._expected(num_tokens) * self._correction.factor(_size(num_tokens))

    def _expected(self, num_tokens: float) -> float:
        sizes, seconds = self._sizes, self._seconds
        if len(sizes) == 1 or num_tokens <= sizes[0]:
            return seconds[0]
        right = min(bisect_left(sizes, num_tokens), len(sizes) - 1)
        left = right - 1
        slope = (seconds[right] - seconds[left]) / (sizes[right] - sizes[left])
        return seconds[left] + max(slope, 0.0) * (num_tokens - sizes[left])


class DraftCosts:
    """How long a session waits for a draft by its length, seconds.

    Args:
        passes: of the draft tier; None if it needs none.
    """

    OVERHEAD_S = 0.0005
    """A way to the draft tier and back."""

    def __init__(self, passes: PassCosts | None) -> None:
        self._passes = passes
        self._correction = Correction()

    def observe(
        self, k: int, batch_size: float, seconds: float, *, is_measured: bool = True
    ) -> None:
        """A draft of K tokens was waited for so long, while so many sessions were drafted for.

        Args:
            is_measured: False where it had not come by then.
        """
        expected, weight = self._expected(k, batch_size), 1 / max(batch_size, 1.0)
        self._correction.observe(k, expected, seconds, weight, is_measured=is_measured)

    def forget(self, share: float) -> None:
        """What has not been seen for a while may be otherwise by now."""
        self._correction.forget(share)

    def estimate(self, k: int, batch_size: float) -> float:
        """How long a draft of K tokens takes beside those of so many sessions."""
        if not k:
            return 0.0
        return self._expected(k, batch_size) * self._correction.factor(k)

    def _expected(self, k: int, batch_size: float) -> float:
        step_s = self._passes.estimate(batch_size) if self._passes else 0.0
        return self.OVERHEAD_S + k * step_s


def _size(num_tokens: float) -> int:
    """Sizes that are seen as one: each of the small ones, and steps of a tenth beyond."""
    if num_tokens <= 24:
        return round(num_tokens)
    return 24 + round(math.log(num_tokens / 24) / math.log(1.1))
