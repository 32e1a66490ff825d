"""The options that make a request's parameters, the same for every command that sends requests."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from forethought.cli.options.option_group import with_options
from forethought.generation import GenerationParams
from forethought.input_files import read_input
from forethought.sampling.types import VerificationMode

_UINT32_MAX = 2**32 - 1
_UINT64_MAX = 2**64 - 1

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
Prediction = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Text that the answer will mostly repeat, such as a file to be edited: drafts are "
        "looked up in it. The text's distribution does not depend on it.",
        show_default="none",
        rich_help_panel=_SAMPLING,
    ),
]

_OPTIONS: dict[str, tuple[str, Any]] = {
    "max_tokens": ("max_tokens", MaxTokens),
    "stop": ("stop", Stop),
    "stop_token_id": ("stop_token_ids", StopTokenId),
    "ignore_eos": ("ignore_eos", IgnoreEos),
    "temperature": ("temperature", Temperature),
    "top_k": ("top_k", TopK),
    "top_p": ("top_p", TopP),
    "min_p": ("min_p", MinP),
    "repetition_penalty": ("repetition_penalty", RepetitionPenalty),
    "seed": ("seed", Seed),
    "num_speculative_tokens": ("num_speculative_tokens", NumSpeculativeTokens),
    "mode": ("verification_mode", Mode),
    "logprobs": ("logprobs", Logprobs),
    "prediction": ("prediction", Prediction),
}
"""By name: the field of GenerationParams, and the option."""


def with_params_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with an option for each parameter in place of its argument `params`."""
    defaults = {"ignore_eos": False}
    options = {name: (option, defaults.get(name)) for name, (_, option) in _OPTIONS.items()}
    return with_options(command, "params", options, _make_params)


def _make_params(**given: Any) -> GenerationParams:
    values = {field: given[name] for name, (field, _) in _OPTIONS.items()}
    # What may be given several times and was not is None to typer.
    lists = {field: values[field] or () for field in ("stop", "stop_token_ids")}
    return GenerationParams(**{**values, **lists, "prediction": _read(values["prediction"])})


def _read(path: Path | None) -> str:
    """The text of a file; empty without one."""
    try:
        return "" if path is None else read_input(path).decode()
    except OSError as error:
        problem = f"{path}: {error.strerror}"
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8 from byte {error.start} on"
    raise typer.BadParameter(problem, param_hint="--prediction")
