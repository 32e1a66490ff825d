"""Are two sets of outcomes draws from the same distribution?

Pearson's chi-squared test of homogeneity on two equally large samples. Rare outcomes, which would
add degrees of freedom and hardly any evidence, are counted together. That keeps the level: which
ones those are depends on the sum of both samples only, and if the distributions are the same, that
sum says nothing about the difference of the samples.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from forethought.probe.chi_squared import detectable_noncentrality, survival

MIN_EXPECTED = 5.0
"""An outcome of which fewer are expected in each sample is rare.

All rare ones together may be still fewer. Between samples of the same size that is no harm: a cell
of m outcomes adds 1 to the statistic on average, and its variance is 2 - 2 / m, never more than the
chi-squared distribution's.
"""

Outcome = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """Outcomes that are counted together, and how often each sample has them."""

    outcomes: tuple[Outcome, ...]
    first: int
    second: int

    @property
    def distance(self) -> float:
        """Its part of the statistic."""
        return (self.first - self.second) ** 2 / (self.first + self.second)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two samples of the same size, side by side."""

    num_samples: int  # of each
    cells: tuple[Cell, ...]  # most different first

    @property
    def df(self) -> int:
        """Degrees of freedom."""
        return len(self.cells) - 1

    @property
    def p_value(self) -> float:
        """Probability of a table at least as uneven, if both distributions are the same."""
        if not self.df:
            return 1.0
        return survival(sum(cell.distance for cell in self.cells), self.df)

    @property
    def pooled_share(self) -> float:
        """The share of both samples whose outcomes are rare, and are not compared one by one."""
        pooled = sum(cell.first + cell.second for cell in self.cells if len(cell.outcomes) > 1)
        return pooled / (2 * self.num_samples)

    def detectable_bias(self, alpha: float, power: float) -> float:
        """The least total variation between the two distributions at which a test at level `alpha`
        rejects with probability `power`, provided that rare outcomes have no more than their share
        of it. At most 1.

        For frequencies p and q the statistic's noncentrality is about n sum((p - q)^2 / (p + q)).
        By Cauchy and Schwarz that is at least 2 n d^2 for a total variation of d over the cells:
        least for a bias that is spread over all of them alike. What differs inside the cell of rare
        outcomes is not seen. A single cell counts as two, since a bias would have made a second.
        """
        noncentrality = detectable_noncentrality(alpha, max(self.df, 1), power)
        bias = math.sqrt(noncentrality / (2 * self.num_samples))
        seen_share = 1 - self.pooled_share
        return bias / seen_share if bias < seen_share else 1.0


def compare(first: Counter[Outcome], second: Counter[Outcome]) -> Comparison:
    """Lays two equally large samples side by side, rare outcomes together.

    Raises:
        ValueError: the samples are not equally large, or empty.
    """
    num_samples = first.total()
    if num_samples != second.total() or not num_samples:
        raise ValueError(f"{num_samples} and {second.total()} samples cannot be compared")
    common: list[Cell] = []
    rare: list[Cell] = []
    for outcome in sorted(first.keys() | second.keys()):
        cell = Cell((outcome,), first[outcome], second[outcome])
        is_rare = cell.first + cell.second < 2 * MIN_EXPECTED
        (rare if is_rare else common).append(cell)
    cells = [*common, _merge(rare)] if rare else common
    return Comparison(
        num_samples, tuple(sorted(cells, key=lambda cell: cell.distance, reverse=True))
    )


def p_value_of_share(first: int, second: int, num_samples: int) -> float:
    """Of the test that both samples, of `num_samples` each, have an outcome equally often."""
    cells = (Cell((), first, second), Cell((), num_samples - first, num_samples - second))
    return Comparison(
        num_samples, tuple(cell for cell in cells if cell.first + cell.second)
    ).p_value


def _merge(cells: Sequence[Cell]) -> Cell:
    return Cell(
        tuple(outcome for cell in cells for outcome in cell.outcomes),
        sum(cell.first for cell in cells),
        sum(cell.second for cell in cells),
    )
