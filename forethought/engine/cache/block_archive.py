"""The seam between the engine and a place where full blocks outlive it.

The engine knows neither what that is nor where. It may be slow, forget, or be away: then there is
nothing to be found in it, and the engine computes.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from forethought.engine.cache.block_pool import BlockName
from forethought.engine.model.kv_layout import Numbers


class BlockArchive(Protocol):
    """Keeps the blocks of one model, on one kind of engine. Never raises for being of no use."""

    # In the engine's thread, and never waiting.

    def wants(self, name: BlockName) -> bool:
        """Whether to offer a block: nothing is copied for an archive that does not want it."""
        ...

    def offer(self, name: BlockName, numbers: Numbers) -> None:
        """Hands a block over. The archive may keep it or not."""
        ...

    # In the event loop.

    async def count_prefix(self, names: Sequence[BlockName]) -> int:
        """How many blocks of a chain it has, from the first of these on without a gap."""
        ...

    def fetch(self, names: Sequence[BlockName]) -> AsyncGenerator[Numbers]:
        """The blocks of a chain in order, read-only, up to the first that cannot be had."""
        ...

    def seconds_for(self, num_blocks: int) -> float | None:
        """How long fetching so many may take; None if that is not known."""
        ...


class ComputeRate:
    """How long prompts take to compute, as measured lately. Any thread may ask.

    Args:
        seconds_per_token: what to believe before anything was measured.
    """

    _MIN_TOKENS = 64  # in a pass that says something of prompts
    _LATEST_WEIGHT = 0.3

    def __init__(self, seconds_per_token: float) -> None:
        self._seconds_per_token = seconds_per_token
        self._is_measured = False

    def seconds_for(self, num_tokens: int) -> float:
        """How long so many tokens of a prompt take, with nothing else to do."""
        return num_tokens * self._seconds_per_token

    def passed(self, num_tokens: int, seconds: float) -> None:
        """A pass over so many tokens took so long."""
        if num_tokens >= self._MIN_TOKENS:
            weight = self._LATEST_WEIGHT if self._is_measured else 1.0
            self._seconds_per_token += weight * (seconds / num_tokens - self._seconds_per_token)
            self._is_measured = True
