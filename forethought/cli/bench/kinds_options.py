"""The options of `forethought bench kinds` that no other benchmark has, with their help."""

from pathlib import Path
from typing import Annotated

import typer

from forethought.cli.bench.throughput_options import MAX_REPEATS

_LOAD = "Load"

PromptFolder = Annotated[
    Path,
    typer.Option(
        "--prompts",
        metavar="FOLDER",
        help="Prompts: a file KIND.jsonl for each kind, with objects that have a field prompt.",
        rich_help_panel=_LOAD,
    ),
]
Temperatures = Annotated[
    str,
    typer.Option(
        "--temperature",
        "-t",
        metavar="X,X,...",
        help="Each kind is measured at all of these; 0 always takes the most likely token.",
        rich_help_panel=_LOAD,
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Requests of one run with a kind, one at a time.",
        show_default="one for each prompt",
        rich_help_panel=_LOAD,
    ),
]
Repeats = Annotated[
    int,
    typer.Option(
        min=1,
        max=MAX_REPEATS,
        metavar="N",
        help="Runs of each kind with and without speculation, in turns; medians are reported.",
        rich_help_panel=_LOAD,
    ),
]


def parse_temperatures(text: str) -> tuple[float, ...]:
    """'0,0.7' as (0.0, 0.7).

    Raises:
        typer.BadParameter: it is not a list of numbers from 0 on.
    """
    try:
        temperatures = sorted({float(part) for part in text.split(",")})
    except ValueError:
        temperatures = []
    if not temperatures or not all(0 <= each < float("inf") for each in temperatures):
        raise typer.BadParameter(
            f"{text!r} is not a list of temperatures such as 0,0.7,1", param_hint="--temperature"
        )
    return tuple(temperatures)
