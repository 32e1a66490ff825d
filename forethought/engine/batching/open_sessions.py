"""Which sessions are open, and whether there is room for another. In the event loop's hands."""

from collections.abc import Callable

from forethought.engine.batching.counts import EngineCounts
from forethought.engine.batching.limits import EngineLimits
from forethought.engine.cache.sequence import CachedSequence
from forethought.errors import OverloadedError


class OpenSessions:
    """Any thread may ask how much there is; it is counted over a copy.

    Args:
        limits: of the engine.
        counts: of the engine.
        is_restoring: whether a session waits for its blocks from the archive, and not for memory.
    """

    def __init__(
        self,
        limits: EngineLimits,
        counts: EngineCounts,
        is_restoring: Callable[[CachedSequence], bool],
    ) -> None:
        self._limits = limits
        self._counts = counts
        self._is_restoring = is_restoring
        self._sequences: set[CachedSequence] = set()

    def __len__(self) -> int:
        return len(self._sequences)

    def add(self, sequence: CachedSequence) -> None:
        """A session is open from now on."""
        self._sequences.add(sequence)

    def discard(self, sequence: CachedSequence) -> None:
        """It has ended, or was none."""
        self._sequences.discard(sequence)

    def copy(self) -> list[CachedSequence]:
        """All of them now."""
        return list(self._sequences)

    def check_room(self) -> None:
        """Raises OverloadedError, and counts it, if there is no room for another session."""
        problem = ""
        if len(self) >= self._limits.max_sessions:
            problem = f"{self._limits.max_sessions} sessions are open, the most this tier takes"
        elif (num_waiting := self.num_waiting) >= self._limits.max_waiting:
            problem = f"{num_waiting} sessions wait for memory, the most this tier lets wait"
        if problem:
            self._counts.num_refused_sessions += 1
            raise OverloadedError(problem)

    @property
    def num_waiting(self) -> int:
        """Those that wait for memory."""
        return sum(
            sequence.num_tokens > 0 and not (sequence.block_ids or self._is_restoring(sequence))
            for sequence in self.copy()
        )

    @property
    def num_cached_tokens(self) -> int:
        """Whose keys and values are in memory."""
        return sum(sequence.num_cached_tokens for sequence in self.copy())

    @property
    def num_uncomputed(self) -> int:
        """Tokens that are not."""
        return sum(sequence.num_uncomputed for sequence in self.copy())
