"""The options of `forethought generate`, with their help."""

from collections.abc import Callable
from typing import Annotated

import typer

from forethought.addresses import split_addresses
from forethought.errors import InvalidArgumentError
from forethought.sampling.types import VerificationMode

_UINT32_MAX = 2**32 - 1
_UINT64_MAX = 2**64 - 1

_PROMPT = "Prompt and server"
_SAMPLING = "Sampling"
_LIMITS = "Where it ends"
_OUTPUT = "Output"


def _unsigned(largest: int) -> Callable[[list[int] | int | None], list[int] | int | None]:
    """A check that a number fits the message. What it means is for the server to check."""

    def check(value: list[int] | int | None) -> list[int] | int | None:
        for number in value if isinstance(value, list) else [value]:
            if number is not None and not 0 <= number <= largest:
                raise typer.BadParameter(f"{number} is not in the range from 0 to {largest}")
        return value

    return check


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
        rich_help_panel=_PROMPT,
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Continue the prompt as plain text, without the chat template.",
        rich_help_panel=_PROMPT,
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="A system message before the user's message.",
        rich_help_panel=_PROMPT,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Deadline of the whole call.",
        show_default="none",
        rich_help_panel=_PROMPT,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        callback=_unsigned(_UINT32_MAX),
        metavar="N",
        help="Most tokens to generate.",
        show_default="256",
        rich_help_panel=_LIMITS,
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="End before this text, which is not shown. May be given several times.",
        rich_help_panel=_LIMITS,
    ),
]
StopTokenId = Annotated[
    list[int] | None,
    typer.Option(
        callback=_unsigned(_UINT32_MAX),
        metavar="ID",
        help="End after this token. May be given several times.",
        rich_help_panel=_LIMITS,
    ),
]
IgnoreEos = Annotated[
    bool,
    typer.Option(
        "--ignore-eos", help="Go on after the model's own end tokens.", rich_help_panel=_LIMITS
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        "-t",
        metavar="X",
        help="0 always takes the most likely token; higher is more varied.",
        rich_help_panel=_SAMPLING,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        callback=_unsigned(_UINT32_MAX),
        metavar="N",
        help="Keep the N most likely tokens; 0 all.",
        rich_help_panel=_SAMPLING,
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Keep the most likely tokens up to this total probability; 1 keeps all.",
        rich_help_panel=_SAMPLING,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="Keep tokens at least this likely relative to the best one; 0 keeps all.",
        rich_help_panel=_SAMPLING,
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Above 1 makes tokens that occurred less likely.",
        rich_help_panel=_SAMPLING,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        callback=_unsigned(_UINT64_MAX),
        metavar="N",
        help="Of the random draws. With --mode coupled, and at temperature 0, the same seed gives "
        "the same text; otherwise only with a -k, and while drafts come in time.",
        show_default="random, and shown",
        rich_help_panel=_SAMPLING,
    ),
]
NumSpeculativeTokens = Annotated[
    int | None,
    typer.Option(
        "--num-speculative-tokens",
        "-k",
        callback=_unsigned(_UINT32_MAX),
        metavar="K",
        help="Tokens to draft a round; 0 turns speculation off. The text's distribution does "
        "not depend on it.",
        show_default="the server's",
        rich_help_panel=_SAMPLING,
    ),
]
Mode = Annotated[
    VerificationMode | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="How drafts are judged: rejection (token by token), block (as a whole, which keeps "
        "no fewer), or coupled (by noise that draft and target share; the text then depends on "
        "the seed and the target alone). The text's distribution is the same in all.",
        show_default="the server's",
        rich_help_panel=_SAMPLING,
    ),
]
Tenant = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Whose request it is; different tenants share nothing that was computed.",
        show_default="nobody's",
        rich_help_panel=_PROMPT,
    ),
]
Logprobs = Annotated[
    int | None,
    typer.Option(
        callback=_unsigned(_UINT32_MAX),
        metavar="N",
        help="Also show each token's log-probability and the N most likely tokens.",
        show_default="off",
        rich_help_panel=_OUTPUT,
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
