"""What evidence needs of rows of probabilities, whoever finds it out.

Shapes: n rows, V tokens in the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from forethought.sampling.types import Probabilities


@dataclass(frozen=True, slots=True)
class FlatSupports:
    """The supports of n rows, one after the other."""

    token_ids: Sequence[int]  # each in [0, V), distinct within a row
    bounds: Sequence[int]  # [n + 1]: where the support of each row begins

    @property
    def rows(self) -> list[int]:
        """For each of the tokens its row."""
        sizes = (end - start for start, end in pairwise(self.bounds))
        return [row for row, size in enumerate(sizes) for _ in range(size)]


@dataclass(frozen=True, slots=True)
class RowMeasures:
    """What evidence needs to know of n rows of probabilities."""

    on_support: Probabilities  # of all supports, one after the other
    tail_masses: Sequence[float]  # [n], of all that is outside the support
    tail_probs: Sequence[float]  # [n], of the tail tokens
    tail_ids: Sequence[int]  # [n], drawn from the outside; any token where its mass is 0
    greedy_ids: Sequence[int]  # [n], the first of the likeliest tokens
