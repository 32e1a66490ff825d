"""Which tokens occur in a log that grows and shrinks at its end.

A repetition penalty asks this every round. Counting all of a long context takes tens of
milliseconds, and a set could not forget a token that is cut away; so each token has its count, and
a change costs what has changed.
"""

from collections.abc import Sequence

import numpy as np
import torch


class SeenTokens:
    """Counts of token ids; those with a count above zero are the seen ones."""

    __slots__ = ("_counts", "_device_name", "_token_ids")

    def __init__(self, vocab_size: int, device_name: str) -> None:
        self._counts = np.zeros(vocab_size, dtype=np.int32)  # [V]
        self._device_name = device_name
        self._token_ids: torch.Tensor | None = None  # until the counts change

    @property
    def token_ids(self) -> torch.Tensor:
        """[m] long, ascending, on the device; not to be changed."""
        if self._token_ids is None:
            seen = torch.from_numpy(np.flatnonzero(self._counts > 0))
            self._token_ids = seen.to(self._device_name, torch.long)
        return self._token_ids

    def add(self, token_ids: Sequence[int]) -> None:
        """Counts each of the tokens, which are in [0, V)."""
        self._change(token_ids, 1)

    def remove(self, token_ids: Sequence[int]) -> None:
        """Takes back what was added."""
        self._change(token_ids, -1)

    def _change(self, token_ids: Sequence[int], by: int) -> None:
        if token_ids:
            np.add.at(self._counts, np.asarray(token_ids), by)
            self._token_ids = None
