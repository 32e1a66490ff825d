"""The options of `forethought generate`, with their help."""

from typing import Annotated

import typer

from forethought.addresses import split_addresses
from forethought.errors import InvalidArgumentError

PROMPT_AND_SERVER = "Prompt and server"
_OUTPUT = "Output"


def _addresses(value: str) -> str:
    """Refuses what is no address, in words."""
    try:
        split_addresses(value)
    except InvalidArgumentError as error:
        raise typer.BadParameter("; ".join(error.violations.values())) from error
    return value


Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="[PROMPT]",
        help="What to answer, as a user's message; without it, or with -, standard input.",
        show_default=False,
    ),
]
Address = Annotated[
    str,
    typer.Option(
        envvar="FORETHOUGHT_ADDRESS",
        metavar="HOST:PORT",
        callback=_addresses,
        help="The orchestrator; or several of one deployment, with commas between them: an answer "
        "goes on at the next one when one is lost.",
        rich_help_panel=PROMPT_AND_SERVER,
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Continue the prompt as plain text, without the chat template.",
        rich_help_panel=PROMPT_AND_SERVER,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="A system message before the user's message.",
        rich_help_panel=PROMPT_AND_SERVER,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Deadline of the whole call.",
        show_default="none",
        rich_help_panel=PROMPT_AND_SERVER,
    ),
]
Tenant = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Whose request it is; different tenants share nothing that was computed.",
        show_default="nobody's",
        rich_help_panel=PROMPT_AND_SERVER,
    ),
]
ShowSteps = Annotated[
    bool,
    typer.Option(
        "--show-steps",
        help="Show each round's three steps: what was drafted, how probable draft (DP) and "
        "target (TP) find it, and what rejection sampling made of it.",
        rich_help_panel=_OUTPUT,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON object a line and nothing else: started, tokens, steps (with "
        "--show-steps), and finished or error. Field names are those of GenerateResponse.",
        rich_help_panel=_OUTPUT,
    ),
]
