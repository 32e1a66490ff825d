"""The options of `forethought probe`, with their help.

Address and sampling are `forethought generate`'s.
"""

from pathlib import Path
from typing import Annotated

import typer

from forethought.sampling.params import MAX_SEED

_MAX_CONCURRENCY = 2**16

_SAMPLES = "Samples"
_TEST = "Verdict"
_OUTPUT = "Output"

Prompts = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Prompts, a line each, as users' messages. Short answers with few ways to go on are "
        "compared best.",
        show_default="3 texts to be gone on with",
        rich_help_panel=_SAMPLES,
    ),
]
Raw = Annotated[
    bool,
    typer.Option(
        "--raw",
        help="Continue the lines of --prompts as plain text, without the chat template.",
        rich_help_panel=_SAMPLES,
    ),
]
NumSamples = Annotated[
    int,
    typer.Option(
        "--samples",
        min=10,
        metavar="N",
        help="Answers of each arm to each prompt. Four times as many find half as large a bias.",
        rich_help_panel=_SAMPLES,
    ),
]
NumTokens = Annotated[
    int,
    typer.Option(
        "--num-tokens",
        "-n",
        min=2,
        max=2**32 - 1,
        metavar="N",
        help="Tokens of an answer. Its first token, its first two, and so on are compared. The "
        "first is never drafted, and a draft of K is cut unless N is at least K + 2.",
        rich_help_panel=_SAMPLES,
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
        help="Tokens to draft a round in the speculative arm.",
        show_default="the deployment's",
        rich_help_panel=_SAMPLES,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=MAX_SEED,
        metavar="N",
        help="Seed of the first request; the next one has the next.",
        show_default="random, and shown",
        rich_help_panel=_SAMPLES,
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        min=1,
        max=_MAX_CONCURRENCY,
        metavar="N",
        help="Requests under way at a time.",
        rich_help_panel=_SAMPLES,
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        min=0, metavar="SECONDS", help="Deadline of each request.", rich_help_panel=_SAMPLES
    ),
]
Alpha = Annotated[
    float,
    typer.Option(
        min=1e-9,
        max=0.5,
        metavar="X",
        help="Chance that a lossless deployment is called biased.",
        rich_help_panel=_TEST,
    ),
]
MaxUnseenBias = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        metavar="X",
        help="Inconclusive if a bias of this total variation could have gone unseen everywhere.",
        rich_help_panel=_TEST,
    ),
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="One JSON document on standard output and nothing else: verdict, settings, tests.",
        rich_help_panel=_OUTPUT,
    ),
]
