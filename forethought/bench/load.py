"""What a benchmark of a deployment sends, and how often."""

from dataclasses import dataclass
from pathlib import Path

import typer

from forethought.bench.prompts import PromptFileError, load_prompts
from forethought.bench.schedule import Schedule
from forethought.generation import ChatMessage, GenerationParams


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of all arms; what an arm changes of their parameters is its own affair."""

    prompts: list[list[ChatMessage]]
    params: GenerationParams
    schedule: Schedule
    timeout_s: float


def prompts_of_option(path: Path | None) -> list[list[ChatMessage]]:
    """The prompts that --prompts names.

    Raises:
        typer.BadParameter: it names none.
    """
    try:
        return load_prompts(path)
    except PromptFileError as error:
        raise typer.BadParameter(str(error), param_hint="--prompts") from error
