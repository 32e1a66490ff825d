"""The option `--config`: a TOML file whose section [up] holds defaults for the other options.

What the environment or the file says of a tier's model and of who drafts is a default, too: `up`
would otherwise choose for itself and tell the tier.
"""

import os
from pathlib import Path
from typing import Any

import typer

from forethought.configuration.config_file import (
    SECTIONS,
    ConfigFileError,
    read_config_file,
)
from forethought.configuration.removed import removed_keys, removed_variables
from forethought.configuration.suggestions import suggest
from forethought.configuration.variables import CONFIG_VARIABLE
from forethought.local.plan.tier_config import TierConfig

_NO_OPTIONS = {"command", "config"}


def read_tier_config(path: Path | None) -> TierConfig:
    """What file and environment say of the tiers.

    Raises:
        typer.BadParameter: the file cannot be read, or a setting was removed.
    """
    try:
        sections = read_config_file(path) if path else {}
    except ConfigFileError as error:
        raise typer.BadParameter(str(error)) from error
    for removed in removed_keys(sections):
        raise typer.BadParameter(f"{path}: {removed}")
    for section in SECTIONS:
        for removed in removed_variables(section, os.environ):
            raise typer.BadParameter(removed)
    return TierConfig(path, sections, dict(os.environ))


def config_of_environment() -> TierConfig:
    """What is said of the tiers to a command without the option.

    Raises:
        typer.BadParameter: the file cannot be read.
    """
    file = os.environ.get(CONFIG_VARIABLE)
    return read_tier_config(Path(file) if file else None)


def defaults_from_file(context: typer.Context, path: Path | None) -> Path | None:
    """Makes the section [up] the defaults of a command's options. Options that are given, and
    their environment variables, stand above it; below it stands what is said of the tiers.

    Raises:
        typer.BadParameter: the file cannot be read, or names an option that does not exist.
    """
    if context.resilient_parsing:
        return path
    config = read_tier_config(path)
    section = config.sections.get("up", {})
    known = {str(option.name) for option in context.command.params} - _NO_OPTIONS
    for name in section:
        if name not in known:
            meant = suggest(name, known)
            raise typer.BadParameter(f"{path}: there is no option {name} for [up]{meant}")
    context.default_map = {
        **(context.default_map or {}),
        **_said_of_tiers(config),
        **{name: _with_commas(value) for name, value in section.items()},
    }
    return path


def _said_of_tiers(config: TierConfig) -> dict[str, str]:
    """Options of `up` that say what is said of a tier already."""
    said = {
        "model": config.get("target", "model"),
        "draft_model": config.get("draft", "model"),
    }
    return {name: value for name, value in said.items() if value is not None}


def _with_commas(value: Any) -> Any:
    """Lists, as in `lookup = ["suffix", "counts"]`."""
    return ",".join(map(str, value)) if isinstance(value, list) else value
