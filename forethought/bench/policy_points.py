"""The arms of `forethought bench policy`, and what they came to at each point."""

from collections.abc import Sequence
from dataclasses import dataclass

from forethought.bench.statistics import Row, median_ratio

GOOD, USELESS = "good", "useless"
OFF = 0
ADAPTIVE = None


@dataclass(frozen=True, slots=True)
class Variant:
    """A draft, and a choice of K. Its name is that of its arm."""

    draft: str
    k: int | None  # of every round; None: the deployment's policy chooses

    @property
    def label(self) -> str:
        """The choice, in words."""
        if self.k is ADAPTIVE:
            return "adaptive"
        return f"K = {self.k}" if self.k else "off"

    @property
    def name(self) -> str:
        return f"{self.draft} draft, {self.label}"


def variants_of(draft: str, fixed: Sequence[int]) -> list[Variant]:
    """What is compared with a draft: neighbours in the schedule are the two that are compared at
    all points."""
    return [Variant(draft, k) for k in (OFF, ADAPTIVE, *fixed)]


@dataclass(frozen=True, slots=True)
class Point:
    """A draft at a concurrency."""

    draft: str
    concurrency: int
    rows: dict[int | None, Row]  # by K; None is the policy's, 0 no speculation

    def over_off(self, k: int | None) -> float:
        """Tokens a second with this choice over those without speculation."""
        return median_ratio(self.rows[k], self.rows[OFF])

    @property
    def best_fixed(self) -> int | None:
        """The fixed K with the highest median; None where none was measured."""
        fixed = [k for k in self.rows if k]
        return max(fixed, key=lambda k: self.rows[k].median.tokens_per_s, default=None)

    @property
    def over_best_fixed(self) -> float | None:
        """Tokens a second of the policy over those of the best fixed K."""
        best = self.best_fixed
        return None if best is None else median_ratio(self.rows[ADAPTIVE], self.rows[best])


def points_of(rows: Sequence[Row], variants: Sequence[Variant]) -> list[Point]:
    """By draft, in the order of `variants`, and by concurrency."""
    by_name = {variant.name: variant for variant in variants}
    points: dict[tuple[str, int], dict[int | None, Row]] = {
        (draft, concurrency): {}
        for draft in dict.fromkeys(variant.draft for variant in variants)
        for concurrency in sorted({row.concurrency for row in rows})
    }
    for row in rows:
        variant = by_name[row.arm]
        points[variant.draft, row.concurrency][variant.k] = row
    return [Point(draft, concurrency, found) for (draft, concurrency), found in points.items()]


def plain_twice(points: Sequence[Point]) -> dict[int, float]:
    """Tokens a second of one deployment over those of the other, both without speculation, by
    concurrency. They do the same, so what is not 1 is the machine's doing: no ratio of this
    measurement is more exact.
    """
    plain = {(point.draft, point.concurrency): point.rows[OFF] for point in points}
    return {
        concurrency: median_ratio(row, plain[GOOD, concurrency])
        for (draft, concurrency), row in plain.items()
        if draft == USELESS and (GOOD, concurrency) in plain
    }
