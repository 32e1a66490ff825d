"""Which blocks are in the store, as far as this process knows: so that none is sent twice.

Believed for a limited time, since the store forgets too. Any thread may ask and tell.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock


class KnownBlocks:
    """Hashes of blocks, the least recently confirmed dropped first.

    Args:
        max_blocks: most hashes to keep.
        believed_for_s: time after which a block may be gone.
        clock: in seconds.
    """

    def __init__(
        self,
        max_blocks: int,
        believed_for_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_blocks = max_blocks
        self._believed_for_s = believed_for_s
        self._clock = clock
        self._lock = Lock()
        self._seen_at: OrderedDict[bytes, float] = OrderedDict()

    def __contains__(self, block_hash: bytes) -> bool:
        with self._lock:
            seen_at = self._seen_at.get(block_hash)
        return seen_at is not None and self._clock() - seen_at < self._believed_for_s

    def __len__(self) -> int:
        return len(self._seen_at)

    def add(self, block_hash: bytes) -> None:
        """It is there now."""
        with self._lock:
            self._seen_at[block_hash] = self._clock()
            self._seen_at.move_to_end(block_hash)
            if len(self._seen_at) > self._max_blocks:
                self._seen_at.popitem(last=False)

    def discard(self, block_hash: bytes) -> None:
        """It is not there."""
        with self._lock:
            self._seen_at.pop(block_hash, None)
