"""How long a round on a target may take, where another replica could take the session over.

A process that is stopped keeps its connections: pings find it out after half a minute. With
another replica at hand a session need not wait for that. But a target may be slow for good reasons,
a long prompt or many sessions, and a session that moves computes its prompt anew elsewhere. So
the limit is many times what a round should take, never less than some seconds, and twice as long
after each move of the same round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from forethought.tier import PassCost


@dataclass(frozen=True, slots=True)
class RoundLimit:
    """Many times the expected time, and a floor."""

    floor_s: float = 5.0
    factor: float = 20.0

    def seconds(self, expected_s: float, num_moves: int = 0) -> float:
        """The limit of a round.

        Args:
            expected_s: what the round should take.
            num_moves: how often it has been given up elsewhere.
        """
        return float(max(self.floor_s, self.factor * expected_s) * 2**num_moves)


def expected_pass_s(pass_costs: Sequence[PassCost], num_tokens: int) -> float:
    """What passes over so many tokens should take, by the largest one that was measured.

    0 where nothing was measured.
    """
    if not pass_costs:
        return 0.0
    largest = pass_costs[-1]
    return largest.forward_ns / 1e9 * max(num_tokens / largest.num_tokens, 1.0)
