"""`forethought bench engine`: one forward pass against the floor of its products, in process."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from forethought.bench.machine import describe_machine
from forethought.bench.plot import Line, Panel, Plot, require_plot, write_plot
from forethought.bench.report import (
    Column,
    build_table,
    number,
    print_table,
    times,
    write_document,
)
from forethought.cli.bench import throughput_options as options
from forethought.cli.failure import print_failure
from forethought.cli.up import options as up_options
from forethought.errors import ForethoughtError
from forethought.local.plan.defaults import DEFAULT_MODEL
from forethought.models.files.reference import resolve

if TYPE_CHECKING:
    from forethought.engine.loading.pass_timing import PassTime


_MAX_CONTEXT = 2**20
"""Of all sequences of a pass together, tokens."""
_MAX_TOKENS = 2**13
"""Computed in a pass: each has a row of logits."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured."""

    model: str
    dtypes: Sequence[str]
    num_tokens: Sequence[int]
    batch_sizes: Sequence[int]
    context: int
    num_repeats: int
    device: str
    num_threads: int


@dataclass(frozen=True, slots=True)
class Row:
    """A pass of one engine in one number format."""

    engine: str
    time: "PassTime"


def engine(
    *,
    model: up_options.Model = DEFAULT_MODEL,
    dtypes: Annotated[
        str, typer.Option("--dtype", metavar="NAME,NAME,...", help="Number formats to compare.")
    ] = "auto",
    tokens: Annotated[
        str, typer.Option(metavar="N,N,...", help="Tokens of each sequence in a pass: K + 1.")
    ] = "1,2,4,5,8",
    batch: Annotated[str, typer.Option(metavar="N,N,...", help="Sequences in a pass.")] = "1,8",
    context: Annotated[
        int,
        typer.Option(
            min=0, max=_MAX_CONTEXT, metavar="N", help="Tokens before these, of each sequence."
        ),
    ] = 256,
    repeats: Annotated[
        int,
        typer.Option(
            min=2,
            max=options.MAX_REPEATS,
            metavar="N",
            help="Passes of each kind; medians are shown.",
        ),
    ] = 30,
    device: up_options.Device = None,
    num_threads: up_options.NumThreads = None,
    as_json: options.AsJson = False,
    plot: options.PlotFile = None,
) -> None:
    """Measure one forward pass against the floor of its products with weights, in turns, for each
    number of tokens and of sequences.

    Examples:

    - `forethought bench engine --dtype bfloat16,int4 --tokens 1,4,8 --plot engine.svg`
    """
    errors = Console(stderr=True)
    num_tokens = options.parse_counts(tokens, "--tokens")
    batch_sizes = options.parse_counts(batch, "--batch")
    _check_largest(max(num_tokens), max(batch_sizes), context)
    settings = Settings(
        model,
        dtypes.split(","),
        num_tokens,
        batch_sizes,
        context,
        repeats,
        device or "auto",
        num_threads or 0,
    )
    machine = describe_machine()
    try:
        if plot is not None:
            require_plot(plot)
        rows = _measure(settings, errors)
        if plot is not None:
            write_plot(plot, _plot(rows, f"{model}, {context} tokens of context"))
    except ForethoughtError as error:
        print_failure(errors, error.message)
        raise typer.Exit(1) from error
    if as_json:
        write_document(
            sys.stdout, "engine", machine, asdict(settings), [_as_json(row) for row in rows]
        )
    else:
        print_table(_table(rows))


def _check_largest(num_tokens: int, batch_size: int, context: int) -> None:
    """Raises typer.BadParameter for a pass that no engine is asked for."""
    for num, most, what in (
        (num_tokens, _MAX_TOKENS, "--tokens"),
        (context + num_tokens, _MAX_CONTEXT, "--context and --tokens"),
    ):
        if batch_size * num > most:
            raise typer.BadParameter(
                f"{batch_size:,} sequences of {num:,} tokens are more than the {most:,} tokens of "
                "the largest pass",
                param_hint=f"{what}, times --batch",
            )


def _measure(settings: Settings, console: Console) -> list[Row]:
    # torch takes seconds to import; a wrong option should not.
    from forethought.engine.loading.loader import EngineOptions, load_model  # noqa: PLC0415
    from forethought.engine.loading.pass_timing import PassShape, time_passes  # noqa: PLC0415

    files = resolve(settings.model)
    shapes = [
        PassShape(num_tokens, batch_size, settings.context)
        for batch_size in settings.batch_sizes
        for num_tokens in settings.num_tokens
    ]
    rows: list[Row] = []
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        for dtype in settings.dtypes:
            task = progress.add_task(f"{dtype}: loading", total=None)
            options = EngineOptions(dtype, settings.device, settings.num_threads)
            model = load_model(files, options)
            num_turns = len(shapes) * (settings.num_repeats + 1)
            progress.update(task, description=model.dtype_name, total=num_turns)
            measured = time_passes(
                model, shapes, settings.num_repeats, partial(progress.advance, task)
            )
            rows += [Row(f"{model.engine_name} {model.dtype_name}", time) for time in measured]
    return rows


def _table(rows: Sequence[Row]) -> Table:
    columns: list[Column[Row]] = [
        Column("engine", lambda row: row.engine, is_number=False),
        Column("sequences", lambda row: str(row.time.shape.batch_size)),
        Column("tokens\neach", lambda row: str(row.time.shape.num_tokens)),
        Column("pass\nms", lambda row: number(row.time.pass_ms)),
        Column("floor\nms", lambda row: number(row.time.floor_ms)),
        Column("ratio", lambda row: times(row.time.ratio)),
        Column("tokens/s", lambda row: number(row.time.tokens_per_s, 0)),
    ]
    return build_table(columns, rows)


def _as_json(row: Row) -> dict[str, Any]:
    time = asdict(row.time)
    shape = time.pop("shape")
    ratio, tokens_per_s = row.time.ratio, row.time.tokens_per_s
    return {"engine": row.engine, **shape, **time, "ratio": ratio, "tokens_per_s": tokens_per_s}


def _plot(rows: Sequence[Row], title: str) -> Plot:
    """Passes and floors over the number of tokens, a panel for each number of sequences."""
    panels = []
    for batch_size in dict.fromkeys(row.time.shape.batch_size for row in rows):
        lines = []
        for engine in dict.fromkeys(row.engine for row in rows):
            own = [
                row.time
                for row in rows
                if (row.engine, row.time.shape.batch_size) == (engine, batch_size)
            ]
            x = [time.shape.num_tokens for time in own]
            lines.append(Line(engine, x, [time.pass_ms for time in own]))
            lines.append(Line(engine, x, [time.floor_ms for time in own], "floor"))
        panels.append(Panel(f"{batch_size} at once", "ms", lines))
    return Plot(title, "tokens of each sequence", panels)
