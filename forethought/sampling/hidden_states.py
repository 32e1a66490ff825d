"""Hidden states of the target, as they travel to a draft that guesses from them.

A feature draft (EAGLE, Li et al., arXiv 2401.15077) takes in, with each token, the target's final
hidden state at the position before: what the target's head multiplies, after the last norm. The
target gives those of the positions that it computes, and rejection sampling decides which of them
belong to committed tokens.

They never decide what is said, only how well it is guessed: half precision will do, and whoever has
none guesses worse or not at all.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

HiddenRows = npt.NDArray[np.float16]
"""Shape [n, hidden size]."""


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates:
    """Final hidden states at neighbouring positions of a sequence."""

    first_position: int
    rows: HiddenRows  # [n, hidden size], n at least 1

    @property
    def end(self) -> int:
        """The position behind the last one."""
        return self.first_position + len(self.rows)

    @property
    def size(self) -> int:
        """Of a hidden state."""
        return int(self.rows.shape[1])

    def within(self, start: int, end: int) -> Self | None:
        """Those at [start, end); None if there are none."""
        first, end = max(start, self.first_position), min(end, self.end)
        if first >= end:
            return None
        own = slice(first - self.first_position, end - self.first_position)
        return type(self)(first, self.rows[own])

    def followed_by(self, later: Self) -> Self:
        """Both, if `later` goes on where these are, else `later` alone. Where both have a position,
        `later` is right."""
        kept = self.within(self.first_position, later.first_position)
        if kept is None or kept.end != later.first_position:
            return later
        return type(self)(kept.first_position, np.concatenate((kept.rows, later.rows)))


def joined(earlier: HiddenStates | None, later: HiddenStates | None) -> HiddenStates | None:
    """`followed_by`, where either may be missing."""
    if earlier is None or later is None:
        return later or earlier
    return earlier.followed_by(later)
