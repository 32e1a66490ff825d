"""What several holders share: requests or calls under way, or bytes of texts that wait.

Each holder may have up to three times what is free (dynamic thresholds: Choudhury and Hahne,
IEEE/ACM Transactions on Networking 6(2), 1998). One alone gets three quarters, two get three
sevenths each. So whoever holds most is refused first, and a newcomer finds room.
"""

from collections import Counter
from collections.abc import Hashable

MAX_SHARE_OF_FREE = 3
"""A holder has at most this many times what is free."""


class Shares:
    """A total of which holders take and give back.

    Args:
        total: most that is taken at a time.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._held: Counter[Hashable] = Counter()

    @property
    def num_taken(self) -> int:
        """What all holders have."""
        return self._held.total()

    def held_by(self, holder: Hashable) -> int:
        """What one holder has."""
        return self._held[holder]

    def has_room(self, holder: Hashable, amount: int = 1, kept_free: int = 0) -> bool:
        """Whether the holder may have `amount` more, where so much is kept free for others."""
        free = self.total - self.num_taken - kept_free
        wanted = self._held[holder] + amount
        return amount <= free and wanted <= MAX_SHARE_OF_FREE * free

    def take(self, holder: Hashable, amount: int = 1) -> None:
        """Takes `amount`, for which there is room."""
        self._held[holder] += amount

    def give_back(self, holder: Hashable, amount: int = 1) -> None:
        """Gives `amount` back, which the holder has."""
        self._held[holder] -= amount
        if not self._held[holder]:
            del self._held[holder]
