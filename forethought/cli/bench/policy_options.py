"""The options of `forethought bench policy` that no other benchmark has, with their help."""

from typing import Annotated

import typer

Fixed = Annotated[
    str,
    typer.Option(
        metavar="K,K,...",
        help="Fixed K to compare with, one request at a time.",
        rich_help_panel="Load",
    ),
]
GoodDraft = Annotated[
    str | None,
    typer.Option(
        "--draft-model",
        metavar="REF",
        help="The good draft. It must have the target's vocabulary.",
        show_default="the target model itself, in --draft-dtype",
        rich_help_panel="Models",
    ),
]
GoodDraftDtype = Annotated[
    str | None,
    typer.Option(
        "--draft-dtype",
        metavar="NAME",
        help="Number format of the good draft.",
        show_default="int4 for the demo's model on a CPU, else as --dtype",
        rich_help_panel="Models",
    ),
]
TargetDtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="NAME",
        help="Number format of the target: auto, float32, bfloat16 or float16; on a CPU also int8 "
        "or int4.",
        show_default="bfloat16 for the demo's model on a CPU, else auto",
        rich_help_panel="Models",
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check",
        help="Exit with 1 if a goal is missed.",
        rich_help_panel="Output",
    ),
]
