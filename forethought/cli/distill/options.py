"""The options of `forethought distill`, with their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_MOST = 2**16  # of what is held at a time
_DATA = "Data"
_DRAFT = "Draft"
_TRAINING = "Training"


class ArchitectureName(StrEnum):
    """Kinds of drafts."""

    FEATURE = "feature"
    LLAMA = "llama"


class ComputeName(StrEnum):
    """Number formats that a draft is trained in."""

    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"


Out = Annotated[
    Path,
    typer.Option(
        file_okay=False,
        metavar="DIR",
        help="Where data, checkpoints and the draft go. A run that was interrupted goes on there.",
    ),
]
Texts = Annotated[
    list[Path] | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="A text whose pieces the target continues, besides the questions that it asks itself. "
        "May be given several times.",
        show_default=False,
        rich_help_panel=_DATA,
    ),
]
Tokens = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Least tokens to generate, prompts included. They are made in shards of "
        "--shard-size conversations, some 250 tokens each. More can be added later.",
        rich_help_panel=_DATA,
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1,
        max=_MOST,
        metavar="N",
        help="Conversations that are generated side by side.",
        rich_help_panel=_DATA,
    ),
]
ShardSize = Annotated[
    int,
    typer.Option(
        min=1,
        max=_MOST,
        metavar="N",
        help="Conversations of a data file; an interrupted run loses at most one file.",
        rich_help_panel=_DATA,
    ),
]
MaxAnswer = Annotated[
    int,
    typer.Option(
        min=8,
        max=_MOST,
        metavar="N",
        help="Longest answer to generate, tokens.",
        rich_help_panel=_DATA,
    ),
]
MaxUser = Annotated[
    int,
    typer.Option(
        min=1,
        max=_MOST,
        metavar="N",
        help="Longest question to generate, tokens, besides its opening.",
        rich_help_panel=_DATA,
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Number format in which the target generates; with many conversations at a time "
        "bfloat16 is the fastest.",
        rich_help_panel=_DATA,
    ),
]
Architecture = Annotated[
    ArchitectureName,
    typer.Option(
        help="feature: one decoder layer over tokens and the target's hidden states. llama: a "
        "smaller model made of some of the target's layers.",
        rich_help_panel=_DRAFT,
    ),
]
Layers = Annotated[
    str,
    typer.Option(
        metavar="N,N,...",
        help="Layers of the target to begin with, negative ones counted from its end: those of a "
        "llama draft in their order, or the one that a feature draft's layer begins as.",
        rich_help_panel=_DRAFT,
    ),
]
DraftVocabSize = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Tokens that the draft can say, the most frequent ones; 0 is all of the target's. "
        "The text stays exact.",
        rich_help_panel=_DRAFT,
    ),
]
License = Annotated[
    str,
    typer.Option(
        "--license",
        metavar="ID",
        help="Licence that the card states: that of the target allows you which.",
        rich_help_panel=_DRAFT,
    ),
]
Steps = Annotated[
    int, typer.Option(min=1, metavar="N", help="Steps of training.", rich_help_panel=_TRAINING)
]
Unroll = Annotated[
    int,
    typer.Option(
        min=1,
        max=_MOST,
        metavar="N",
        help="Drafted positions that a feature draft is trained for. Each costs as much as the "
        "first; more keep later positions good.",
        rich_help_panel=_TRAINING,
    ),
]
Rows = Annotated[
    int,
    typer.Option(min=1, max=_MOST, metavar="N", help="Rows of a batch.", rich_help_panel=_TRAINING),
]
RowLen = Annotated[
    int,
    typer.Option(min=8, max=_MOST, metavar="N", help="Tokens of a row.", rich_help_panel=_TRAINING),
]
LearningRate = Annotated[
    float,
    typer.Option(min=0, metavar="X", help="Peak learning rate.", rich_help_panel=_TRAINING),
]
CheckpointEvery = Annotated[
    int,
    typer.Option(
        min=1,
        metavar="N",
        help="Steps between checkpoints, each of which also renews the draft in --out.",
        rich_help_panel=_TRAINING,
    ),
]
Compute = Annotated[
    ComputeName,
    typer.Option(
        help="Number format of products in training; weights stay in float32.",
        rich_help_panel=_TRAINING,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="N",
        help="Of data and training: the same seed, settings and number of threads make the same "
        "draft.",
        rich_help_panel=_TRAINING,
    ),
]
