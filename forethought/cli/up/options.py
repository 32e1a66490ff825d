"""The options of `forethought up`, with their help."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from forethought.cli.options.config_option import defaults_from_file
from forethought.configuration.variables import CONFIG_VARIABLE
from forethought.local.plan.defaults import DEFAULT_PORT, HOST, HTTP_PORT
from forethought.local.plan.plan_options import LOOKUPS
from forethought.sampling.types import VerificationMode
from forethought.tier import DEFAULT_MAX_SPECULATIVE_TOKENS, LARGEST_MAX_SPECULATIVE_TOKENS


class PolicyName(StrEnum):
    """How K is chosen."""

    ADAPTIVE = "adaptive"
    FIXED = "fixed"


class GenerationConfigName(StrEnum):
    """Where sampling parameters come from that a request leaves open."""

    AUTO = "auto"
    NONE = "none"


def lookups_of(text: str | None) -> tuple[str, ...] | None:
    """The names in an option; raises typer.BadParameter for others."""
    if text is None:
        return None
    names = tuple(filter(None, map(str.strip, text.split(","))))
    for name in names:
        if name not in LOOKUPS:
            raise typer.BadParameter(f"{name!r} is none of {', '.join(LOOKUPS)}")
    return names


def _checked(text: str | None) -> str | None:
    lookups_of(text)
    return text


_MODELS = "Models"
_PROCESSES = "Processes"

Command = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="-- COMMAND",
        help="Run this once everything is ready, with FORETHOUGHT_ADDRESS set; then stop "
        "everything and exit with its exit code.",
        show_default=False,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        metavar="REF",
        help="Target model: a folder, a hub id, a .gguf file, or package:NAME for a GGUF inside "
        "an installed Python package.",
        rich_help_panel=_MODELS,
    ),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        metavar="REF",
        help="Draft model: as --model, or draft:NAME for one that comes with Forethought. It must "
        "have the target's vocabulary, or be translated. Without one there is no draft tier.",
        show_default=False,
        rich_help_panel=_MODELS,
    ),
]
TranslateDraft = Annotated[
    bool,
    typer.Option(
        "--translate-draft",
        help="Take a draft model with another vocabulary, too: it guesses the tokens that both "
        "hold. The text stays exact; how many guesses stay depends on what the two share.",
        rich_help_panel=_MODELS,
    ),
]
Counts = Annotated[
    Path | None,
    typer.Option(
        exists=True,
        dir_okay=False,
        metavar="FILE",
        help="Counts of the target's texts, written by `forethought count`, to look guesses up in.",
        show_default="those that come with Forethought for this target, if any",
        rich_help_panel=_MODELS,
    ),
]
Lookup = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        callback=_checked,
        help="Who looks guesses up in the orchestrator before a draft tier is asked, in this "
        "order: suffix and ngram in the text itself, suffix for what followed the last words most "
        "often, ngram for what followed them last, counts in --counts. Empty: nobody.",
        show_default="suffix, then counts if there are any",
        rich_help_panel=_MODELS,
    ),
]
Policy = Annotated[
    PolicyName | None,
    typer.Option(
        help="How K is chosen where a request does not say: adaptive takes what promises the most "
        "tokens a second, fixed always the same.",
        show_default="adaptive",
        rich_help_panel=_MODELS,
    ),
]
KvMemory = Annotated[
    str | None,
    typer.Option(
        "--kv-memory",
        metavar="SIZE",
        help="Memory of the target for keys and values, such as 512MiB or 4GiB.",
        show_default="what the device has room for",
        rich_help_panel=_MODELS,
    ),
]
MaxModelLen = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Longest sequence of the target, prompt and answer together, in tokens.",
        show_default="the model's own limit",
        rich_help_panel=_MODELS,
    ),
]
MaxSessions = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Most requests under way at a time; others are refused.",
        show_default="256",
        rich_help_panel=_PROCESSES,
    ),
]
NumSpeculativeTokens = Annotated[
    int | None,
    typer.Option(
        "--num-speculative-tokens",
        "-k",
        min=0,
        max=LARGEST_MAX_SPECULATIVE_TOKENS,
        metavar="K",
        help="Tokens to draft a round where a request does not say. Above "
        f"{DEFAULT_MAX_SPECULATIVE_TOKENS} it is also the most that a request may ask for.",
        show_default="the orchestrator's",
        rich_help_panel=_MODELS,
    ),
]
Mode = Annotated[
    VerificationMode | None,
    typer.Option(
        "--mode",
        metavar="MODE",
        help="How drafts are judged where a request does not say: rejection, block or coupled.",
        show_default="the orchestrator's",
        rich_help_panel=_MODELS,
    ),
]
GenerationConfig = Annotated[
    GenerationConfigName | None,
    typer.Option(
        help="Sampling parameters where a request leaves them open: auto takes those of the "
        "model's generation_config.json, none takes temperature 1 and all tokens.",
        show_default="auto",
        rich_help_panel=_MODELS,
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Number format of the models: auto, float32, bfloat16 or float16; on a CPU also int8 "
        "or int4.",
        show_default="auto",
        rich_help_panel=_MODELS,
    ),
]
DraftDtype = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Number format of the draft model.",
        show_default="as --dtype; int4 for drafts that come along",
        rich_help_panel=_MODELS,
    ),
]
DraftMinProb = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="P",
        help="End a draft before a place where the draft model gives its likeliest token less than "
        "this.",
        show_default="0, which drafts all K tokens",
        rich_help_panel=_MODELS,
    ),
]
DraftVocabSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Let the draft model score its special tokens and the most frequent others only, N "
        "in all, as --counts tell them, else the tokenizer. Its passes take less time; a token "
        "that is left out is never guessed.",
        show_default="all",
        rich_help_panel=_MODELS,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the models run: auto, cpu, cuda, cuda:1, ...",
        show_default="auto",
        rich_help_panel=_MODELS,
    ),
]
NumThreads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="CPU threads of each model.",
        show_default="the tier's",
        rich_help_panel=_MODELS,
    ),
]
Lookahead = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Let the draft model draft the next round while the target verifies one, for the N "
        "likeliest ends of it.",
        show_default="1, and 0 where both run on the CPU",
        rich_help_panel=_MODELS,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        is_eager=True,
        envvar=CONFIG_VARIABLE,
        callback=defaults_from_file,
        metavar="FILE",
        help="TOML file with sections [up], whose keys are these options, [target], [draft] and "
        "[orchestrator], whose keys are the settings of these processes (docs/settings.md).",
        show_default=False,
        rich_help_panel=_PROCESSES,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="HOST",
        help="Host name or IP address on which the orchestrator listens; 0.0.0.0 is every "
        "interface of this machine. The other processes listen on 127.0.0.1.",
        show_default=HOST,
        rich_help_panel=_PROCESSES,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure",
        help="Take a --host that other machines reach, though all is plain text and for anybody.",
        rich_help_panel=_PROCESSES,
    ),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        metavar="PORT",
        help="Port of the orchestrator; the other processes take the next free ones.",
        show_default=f"{DEFAULT_PORT}, or the next free one",
        rich_help_panel=_PROCESSES,
    ),
]
HttpPort = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=65535,
        metavar="PORT",
        help="Port of the gateway, which speaks OpenAI's HTTP API; 0 starts none.",
        show_default=f"{HTTP_PORT}, or the next free one",
        rich_help_panel=_PROCESSES,
    ),
]
NoStore = Annotated[
    bool,
    typer.Option(
        "--no-store",
        help="Start no Valkey. Sessions then end with their request and cannot be resumed, and "
        "what tiers have computed of prompts ends with them.",
        rich_help_panel=_PROCESSES,
    ),
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="FORETHOUGHT_UP_REDIS_URL",
        help="Use this Redis or Valkey (redis://, rediss:// or unix://) instead of the embedded "
        "one. One with a password better comes by the variable.",
        rich_help_panel=_PROCESSES,
    ),
]
LogDir = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        metavar="FOLDER",
        help="Folder for one log a process, replaced at each start.",
        show_default=".forethought/PORT",
        rich_help_panel=_PROCESSES,
    ),
]
StartupTimeout = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help="Give up when not everything is ready by then.",
        rich_help_panel=_PROCESSES,
    ),
]
