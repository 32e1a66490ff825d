"""Whether the server has room for what can be computed again.

A server that evicts makes room by itself. One that does not (`noeviction`) refuses everybody when
it is full, session records too, which nothing can replace. So blocks stop at a share of it.
"""

import time
from collections.abc import Callable

from redis.asyncio import Redis

from forethought.errors import StoreUnavailableError
from forethought.store.server.connection import StoreConnection


class MemoryShare:
    """Looks at the server's memory, now and then.

    Args:
        connection: to the server.
        max_share: of the server's limit on memory, 0 to 1.
        every_s: time for which an answer is believed.
        clock: in seconds.
    """

    def __init__(
        self,
        connection: StoreConnection,
        max_share: float,
        every_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._max_share = max_share
        self._every_s = every_s
        self._clock = clock
        self._has_room = True
        self._looked_at: float | None = None

    async def has_room(self) -> bool:
        """Whether blocks may be written. True if the server does not say."""
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= self._every_s:
            self._looked_at = now
            self._has_room = await self._look()
        return self._has_room

    async def _look(self) -> bool:
        async def call(client: Redis) -> dict[str, int | str]:
            facts: dict[str, int | str] = await client.info("memory")
            return facts

        try:
            facts = await self._connection.run(call)
        except StoreUnavailableError:
            return True
        limit = int(facts.get("maxmemory", 0))
        if not limit or facts.get("maxmemory_policy") != "noeviction":
            return True
        return int(facts.get("used_memory", 0)) < self._max_share * limit
