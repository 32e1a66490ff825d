"""A budget of retries, so that failures do not multiply the load that may have caused them.

A session whose replica died opens elsewhere once: that is the same load in another place. Every
further attempt comes on top, and takes from the budget. Openings that succeed fill it, so that at
most a part of all openings are retries. Who finds it empty waits for his turn instead of failing.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class RetryBudget:
    """For one tier of one orchestrator."""

    per_success: float = 0.2
    """Retries that an opening which succeeds pays for."""
    max_retries: float = 10.0
    """Most that can be saved; the budget begins full."""
    _left: float = -1.0

    def __post_init__(self) -> None:
        self._left = self.max_retries

    def succeeded(self) -> None:
        """An opening was answered."""
        self._left = min(self._left + self.per_success, self.max_retries)

    def take(self) -> bool:
        """Whether a retry may be made now; it is paid for then."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
