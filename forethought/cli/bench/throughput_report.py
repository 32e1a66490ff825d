"""What `forethought bench throughput` shows: progress, a table, JSON rows, a plot."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from forethought.bench.closed_loop import Burst, Sample
from forethought.bench.plot import Line, Panel, Plot
from forethought.bench.report import Column, build_table, number, percent, times
from forethought.bench.schedule import Arm, Schedule, run_interleaved
from forethought.bench.statistics import (
    BurstStatistics,
    Row,
    describe_burst,
    median_ratio,
)


class ProgressView:
    """How far a schedule is: a live bar on a terminal, a line after each burst elsewhere."""

    def __init__(self, console: Console, num_requests: int) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=num_requests)

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """Shows the bar as long as the context lasts."""
        with self._progress:
            yield

    def warming_up(self, arm: str) -> None:
        """An arm's first request is sent."""
        self._progress.update(self._task, description=f"{arm}: warming up")

    def began(self, arm: str, concurrency: int) -> None:
        """A burst begins."""
        self._progress.update(self._task, description=f"{arm}, concurrency {concurrency}")

    def answered(self, _sample: Sample) -> None:
        """One request was answered."""
        self._progress.advance(self._task)

    def ended(self, burst: Burst) -> None:
        """Says what the burst brought."""
        measured = describe_burst(burst)
        self._console.print(
            f"{burst.arm}, concurrency {burst.concurrency}: "
            f"{number(measured.tokens_per_s)} tokens/s, "
            f"first token {number(measured.ttft_p50_ms)} ms",
            style="dim",
            highlight=False,
        )


async def run_shown(arms: Sequence[Arm], schedule: Schedule, console: Console) -> list[Burst]:
    """Runs the whole schedule, and shows how far it is. Raises as `run_interleaved` does."""
    total = sum(schedule.num_requests_at(concurrency) for concurrency, _ in schedule.turns(arms))
    view = ProgressView(console, total)
    with view.live():
        return await run_interleaved(arms, schedule, view)


def throughput_table(rows: Sequence[Row], baseline: str) -> Table:
    """A line for each arm and concurrency. Speed-ups are over the arm `baseline`."""
    columns = [*point_columns(rows, baseline), *_latency_columns()]
    if any(row.median.num_draft_failures for row in rows):
        columns.append(Column("late\ndrafts", lambda row: number(row.median.num_draft_failures, 0)))
    return build_table(columns, rows)


def point_columns(rows: Sequence[Row], baseline: str) -> list[Column[Row]]:
    """Which point, its tokens a second, and those over the baseline's."""
    speedups = speedups_over(rows, baseline)
    return [
        Column("at\nonce", lambda row: str(row.concurrency)),
        Column("arm", lambda row: row.arm, is_number=False),
        Column("tokens/s", lambda row: number(row.median.tokens_per_s)),
        Column("speed-\nup", lambda row: times(speedups.get((row.concurrency, row.arm)))),
    ]


def _latency_columns() -> list[Column[Row]]:
    def of(title: str, cell: Callable[[BurstStatistics], str]) -> Column[Row]:
        return Column(title, lambda row: cell(row.median))

    return [
        of("TTFT ms\np50", lambda s: number(s.ttft_p50_ms, 0)),
        of("\np99", lambda s: number(s.ttft_p99_ms, 0)),
        of("TPOT ms\np50", lambda s: number(s.tpot_p50_ms)),
        of("\np99", lambda s: number(s.tpot_p99_ms)),
        of("accep-\nted", lambda s: percent(s.acceptance_rate)),
        of("tokens/\nround", lambda s: number(s.mean_acceptance_length, 2)),
    ]


def speedups_over(rows: Sequence[Row], baseline: str) -> dict[tuple[int, str], float]:
    """Tokens a second over the baseline's, by concurrency and arm; without the baseline itself."""
    bases = {row.concurrency: row for row in rows if row.arm == baseline}
    return {
        (row.concurrency, row.arm): median_ratio(row, bases[row.concurrency])
        for row in rows
        if row.arm != baseline and row.concurrency in bases
    }


def throughput_json(rows: Sequence[Row], baseline: str) -> list[dict[str, Any]]:
    """One object a row: medians at its top, each repeat's numbers in `repeats`."""
    speedups = speedups_over(rows, baseline)
    return [
        {
            "arm": row.arm,
            "concurrency": row.concurrency,
            **asdict(row.median),
            "speedup": speedups.get((row.concurrency, row.arm)),
            "repeats": [asdict(repeat) for repeat in row.repeats],
        }
        for row in rows
    ]


def throughput_plot(rows: Sequence[Row], title: str) -> Plot:
    """Tokens a second, time to first token and time per output token, over concurrency."""
    p50, p99 = "", "p99"
    panels = [
        ("Throughput", "tokens/s", {p50: "tokens_per_s"}),
        ("Time to first token", "ms", {p50: "ttft_p50_ms", p99: "ttft_p99_ms"}),
        ("Time per output token", "ms", {p50: "tpot_p50_ms", p99: "tpot_p99_ms"}),
    ]
    return Plot(
        title,
        "requests under way",
        [
            Panel(
                name,
                unit,
                [
                    _line(rows, arm, field, variant)
                    for arm in dict.fromkeys(row.arm for row in rows)
                    for variant, field in curves.items()
                ],
            )
            for name, unit, curves in panels
        ],
    )


def _line(rows: Sequence[Row], arm: str, field: str, variant: str) -> Line:
    points = [
        (row.concurrency, value)
        for row in rows
        if row.arm == arm and (value := getattr(row.median, field)) is not None
    ]
    return Line(arm, [x for x, _ in points], [y for _, y in points], variant)
