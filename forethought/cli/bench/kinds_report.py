"""What `forethought bench kinds` shows: a table, JSON rows, a plot."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from forethought.bench.bar_plot import BarPanel, BarPlot, Bars
from forethought.bench.kind_points import PLAIN, SPECULATIVE, KindPoint
from forethought.bench.report import Column, build_table, number, percent, times
from forethought.bench.statistics import Row
from forethought.generation import ProposerStatistics


def kinds_table(points: Sequence[KindPoint]) -> Table:
    """A line for each temperature and kind."""
    columns: list[Column[KindPoint]] = [
        Column("temper-\nature", lambda point: f"{point.temperature:g}"),
        Column("kind", lambda point: point.kind, is_number=False),
        Column("plain\ntokens/s", lambda point: number(point.plain.median.tokens_per_s)),
        Column("specul.\ntokens/s", lambda point: number(point.speculative.median.tokens_per_s)),
        Column("speed-\nup", lambda point: times(point.speedup)),
        Column("accep-\nted", lambda point: percent(point.speculative.median.acceptance_rate)),
        Column(
            "tokens/\nround",
            lambda point: number(point.speculative.median.mean_acceptance_length, 2),
        ),
        Column("rounds\ndrafted", lambda point: percent(point.speculative.median.drafted_share)),
    ]
    if any(point.speculative.median.num_draft_failures for point in points):
        columns.append(
            Column(
                "late\ndrafts",
                lambda point: number(point.speculative.median.num_draft_failures, 0),
            )
        )
    if any(len(point.parts) > 1 for point in points):
        columns.append(Column("by part", lambda point: _describe(point.parts), is_number=False))
    return build_table(columns, points)


def kinds_json(points: Sequence[KindPoint]) -> list[dict[str, Any]]:
    """One object a row of the table; `acceptance_rate` is null where nothing was drafted."""
    return [
        {
            "temperature": point.temperature,
            "kind": point.kind,
            "speedup": point.speedup,
            **{arm: _row_json(row) for arm, row in _arms(point)},
            "parts": [
                {**asdict(part), "acceptance_rate": _acceptance_rate(part)} for part in point.parts
            ],
        }
        for point in points
    ]


def kinds_plot(points: Sequence[KindPoint], title: str) -> BarPlot:
    """Tokens a second of both arms for each temperature, then the acceptance at all of them."""
    by_temperature: dict[float, list[KindPoint]] = {}
    for point in points:
        by_temperature.setdefault(point.temperature, []).append(point)
    panels = [
        BarPanel(
            f"Temperature {temperature:g}",
            "tokens/s",
            [point.kind for point in some],
            [
                Bars(PLAIN, [point.plain.median.tokens_per_s for point in some]),
                Bars(
                    SPECULATIVE,
                    [point.speculative.median.tokens_per_s for point in some],
                    [times(point.speedup) for point in some],
                ),
            ],
        )
        for temperature, some in by_temperature.items()
    ]
    kinds = list(dict.fromkeys(point.kind for point in points))
    acceptance = [
        Bars(
            f"temperature {temperature:g}",
            [point.speculative.median.acceptance_rate or 0 for point in some],
        )
        for temperature, some in by_temperature.items()
    ]
    return BarPlot(title, [*panels, BarPanel("Accepted", "of drafted tokens", kinds, acceptance)])


def _arms(point: KindPoint) -> list[tuple[str, Row]]:
    return [(PLAIN, point.plain), (SPECULATIVE, point.speculative)]


def _row_json(row: Row) -> dict[str, Any]:
    return {**asdict(row.median), "repeats": [asdict(repeat) for repeat in row.repeats]}


def _acceptance_rate(part: ProposerStatistics) -> float:
    return part.num_accepted_tokens / max(part.num_draft_tokens, 1)


def _describe(parts: Sequence[ProposerStatistics]) -> str:
    """'counts 41% of 1,200, suffix 80% of 310', over all repeats."""
    return ", ".join(
        f"{part.proposer} {percent(_acceptance_rate(part))} of {part.num_draft_tokens:,}"
        for part in parts
    )
