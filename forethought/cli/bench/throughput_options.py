"""The options of `forethought bench throughput`, with their help.

Those of the deployment that it starts are `forethought up`'s.
"""

from pathlib import Path
from typing import Annotated

import typer

MAX_COUNT = 2**16
"""Of requests or sequences at a time, and of tokens in a pass."""
MAX_REPEATS = 100_000
_LOAD = "Load"
_DEPLOYMENT = "Deployment"
_OUTPUT = "Output"

Concurrency = Annotated[
    str,
    typer.Option(
        metavar="N,N,...",
        help="How many requests are under way at a time, for each point.",
        rich_help_panel=_LOAD,
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Requests of one run at one point; at least as many as its concurrency.",
        show_default="twice the concurrency, at least 8",
        rich_help_panel=_LOAD,
    ),
]
Repeats = Annotated[
    int,
    typer.Option(
        min=1,
        max=MAX_REPEATS,
        metavar="N",
        help="Runs of each point with and without speculation, in turns; medians are reported.",
        rich_help_panel=_LOAD,
    ),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Prompts, a line each, as users' messages.",
        show_default="16 questions and edits",
        rich_help_panel=_LOAD,
    ),
]
MaxTokens = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        "-n",
        min=1,
        metavar="N",
        help="Most tokens of an answer.",
        rich_help_panel=_LOAD,
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos",
        help="Make all answers as long as allowed. Past their end models repeat themselves, which "
        "is easy to guess: the speed-up is then too good.",
        rich_help_panel=_LOAD,
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temperature",
        "-t",
        min=0,
        metavar="X",
        help="0 always takes the most likely token.",
        rich_help_panel=_LOAD,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**63,
        metavar="N",
        help="Seed of the first request; the next one has the next.",
        rich_help_panel=_LOAD,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Deadline of each request.",
        rich_help_panel=_LOAD,
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        envvar="FORETHOUGHT_ADDRESS",
        metavar="HOST:PORT",
        help="An orchestrator that runs already. The options below then have no effect and are "
        "refused, except -k.",
        show_default="start everything on this machine, as `forethought up` does",
        rich_help_panel=_DEPLOYMENT,
    ),
]
NumSpeculativeTokens = Annotated[
    int | None,
    typer.Option(
        "--num-speculative-tokens",
        "-k",
        min=1,
        max=2**32 - 1,
        metavar="K",
        help="Tokens to draft a round with speculation; without it, it is always 0.",
        show_default="the deployment's",
        rich_help_panel=_DEPLOYMENT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON document on standard output and nothing else: machine, settings, rows.",
        rich_help_panel=_OUTPUT,
    ),
]
PlotFile = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        dir_okay=False,
        metavar="FILE.svg",
        help="Draw what the table shows. Needs matplotlib: pip install 'forethought\\[bench]'.",
        show_default=False,
        rich_help_panel=_OUTPUT,
    ),
]


def parse_counts(text: str, option: str = "--concurrency") -> tuple[int, ...]:
    """'1,8,2' as (1, 2, 8).

    Raises:
        typer.BadParameter: it is not a list of positive numbers, or one is above MAX_COUNT.
    """
    try:
        numbers = sorted({int(part) for part in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1:
        raise typer.BadParameter(
            f"{text!r} is not a list of positive numbers such as 1,4,16",
            param_hint=option,
        )
    if numbers[-1] > MAX_COUNT:
        raise typer.BadParameter(
            f"{numbers[-1]} is more than the {MAX_COUNT:,} of the largest point",
            param_hint=option,
        )
    return tuple(numbers)
