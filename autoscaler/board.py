"""The latest decision on each tier, for those who wait for it."""

import asyncio
import time
from collections.abc import Callable, Mapping

from autoscaler.decider import Decision, Tier
from forethought.errors import TierUnavailableError


class Board:
    """Where decisions are put up.

    Args:
        stale_s: after which a decision that was not confirmed is none.
        clock: seconds.
    """

    def __init__(self, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_s = stale_s
        self._clock = clock
        self._decisions: dict[Tier, tuple[float, Decision]] = {}
        self.changed = asyncio.Event()
        """Is set when the next decisions are put up; another one stands for those after them."""

    def put(self, decisions: Mapping[Tier, Decision]) -> None:
        """Replaces the decisions on these tiers."""
        for tier, decision in decisions.items():
            self._decisions[tier] = (self._clock(), decision)
        self.changed.set()
        self.changed = asyncio.Event()

    @property
    def latest(self) -> Mapping[Tier, Decision]:
        """The last decision on each tier, however old. From any thread."""
        return {tier: decision for tier, (_, decision) in tuple(self._decisions.items())}

    def get(self, tier: Tier) -> Decision:
        """The decision on a tier.

        Raises:
            TierUnavailableError: nobody has answered who knows what the tier needs.
        """
        put_s, decision = self._decisions.get(tier, (-self._stale_s, None))
        if decision is None or self._clock() - put_s > self._stale_s:
            who = "targets" if tier is Tier.TARGET else "orchestrators"
            raise TierUnavailableError(
                f"it is not known what the {tier.value} tier needs: no {who} have answered for "
                f"{self._stale_s:g} s"
            )
        return decision
