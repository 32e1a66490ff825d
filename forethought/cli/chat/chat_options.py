"""The options that only `forethought chat` has."""

from collections.abc import Sequence
from typing import Annotated

import typer

from forethought.cli.chat.settable import SettingError, set_param
from forethought.generation import GenerationParams

Session = Annotated[
    str | None,
    typer.Option(
        metavar="ID",
        help="Go on with this stored session; its last answer is shown, and finished if it was "
        "broken off.",
        show_default="a new one",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A sampling parameter, as /set takes it, such as temperature=0.7. May be given "
        "several times.",
        rich_help_panel="Sampling",
    ),
]


def with_settings(params: GenerationParams, settings: Sequence[str]) -> GenerationParams:
    """The parameters with those of `--set`.

    Raises:
        typer.BadParameter: one of them is none.
    """
    for text in settings:
        name, _, value = text.partition("=")
        try:
            params = set_param(params, name.strip(), value.strip())
        except SettingError as error:
            raise typer.BadParameter(str(error), param_hint="--set") from error
    return params
