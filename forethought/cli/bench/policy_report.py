"""What `forethought bench policy` shows: a table, JSON rows, a plot."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from forethought.bench.plot import Line, Panel, Plot
from forethought.bench.policy_goals import Goal
from forethought.bench.policy_points import ADAPTIVE, OFF, Point, Variant
from forethought.bench.report import Column, build_table, number, percent, times
from forethought.bench.statistics import BurstStatistics


@dataclass(frozen=True, slots=True)
class _Entry:
    """A choice of K at a point."""

    point: Point
    k: int | None

    @property
    def variant(self) -> Variant:
        return Variant(self.point.draft, self.k)

    @property
    def median(self) -> BurstStatistics:
        return self.point.rows[self.k].median

    @property
    def over_off(self) -> float | None:
        return self.point.over_off(self.k) if self.k != OFF else None

    @property
    def over_best_fixed(self) -> float | None:
        return self.point.over_best_fixed if self.k is ADAPTIVE else None


def _entries(points: Sequence[Point]) -> list[_Entry]:
    return [_Entry(point, k) for point in points for k in point.rows]


def policy_table(points: Sequence[Point]) -> Table:
    """A line for each draft, concurrency and choice of K."""
    columns: list[Column[_Entry]] = [
        Column("draft", lambda entry: entry.point.draft, is_number=False),
        Column("at\nonce", lambda entry: str(entry.point.concurrency)),
        Column("arm", lambda entry: entry.variant.label, is_number=False),
        Column("tokens/s", lambda entry: number(entry.median.tokens_per_s)),
        Column("to off", lambda entry: times(entry.over_off)),
        Column("to best\nfixed", lambda entry: times(entry.over_best_fixed)),
        Column("tokens/\nround", lambda entry: number(entry.median.mean_acceptance_length, 2)),
        Column("accep-\nted", lambda entry: percent(entry.median.acceptance_rate)),
        Column("rounds\ndrafted", lambda entry: percent(entry.median.drafted_share)),
    ]
    return build_table(columns, _entries(points))


def policy_json(points: Sequence[Point]) -> list[dict[str, Any]]:
    """One object for each line of the table: medians at its top, each repeat's in `repeats`."""
    return [
        {
            "draft": entry.point.draft,
            "arm": entry.variant.label,
            "num_speculative_tokens": entry.k,
            "concurrency": entry.point.concurrency,
            **asdict(entry.median),
            "over_off": entry.over_off,
            "over_best_fixed": entry.over_best_fixed,
            "repeats": [asdict(repeat) for repeat in entry.point.rows[entry.k].repeats],
        }
        for entry in _entries(points)
    ]


def goals_json(goals: Sequence[Goal]) -> list[dict[str, Any]]:
    """One object for each goal; `holds` is null where it was not measured."""
    return [{**asdict(goal), "holds": goal.holds} for goal in goals]


def noise_line(ratios: Mapping[int, float]) -> str:
    """What two deployments that do the same were measured at."""
    if not ratios:
        return "not measured: noise, the same twice"
    lowest, highest = min(ratios.values()), max(ratios.values())
    return f"noise: both without speculation, one over the other {lowest:.3f} to {highest:.3f}"


def policy_plot(points: Sequence[Point], title: str) -> Plot:
    """Tokens a second over concurrency, a panel for each draft; each fixed K is a mark."""
    drafts = dict.fromkeys(point.draft for point in points)
    panels = []
    for draft in drafts:
        own = [point for point in points if point.draft == draft]
        lines = [
            Line(
                Variant(draft, k).label,
                [point.concurrency for point in own],
                [point.rows[k].median.tokens_per_s for point in own],
            )
            for k in (OFF, ADAPTIVE)
        ]
        fixed = [(point, k) for point in own for k in point.rows if k]
        if fixed:
            speeds = [point.rows[k].median.tokens_per_s for point, k in fixed]
            lines.append(Line("fixed K", [point.concurrency for point, _ in fixed], speeds))
        panels.append(Panel(f"{draft} draft", "tokens/s", lines))
    return Plot(title, "requests under way", panels)
