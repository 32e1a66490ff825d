"""Where a model folder keeps its chat template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input
from forethought.models.files.json_file import describe, read_json

_log = structlog.get_logger(__name__)

_DEFAULT = "default"


def template_source(folder: Path) -> str | None:
    """The folder's template: of chat_template.jinja, the templates beside it, tokenizer_config.json
    or chat_template.json, the first that there is. Raises ModelReferenceError."""
    files = _template_files(folder)
    stated = [read_json(folder / name) for name in ("tokenizer_config.json", "chat_template.json")]
    for templates in (files, *map(_stated_templates, stated)):
        if templates:
            return _chosen(templates, folder)
    return None


def _template_files(folder: Path) -> dict[str, str]:
    paths = {path.stem: path for path in (folder / "additional_chat_templates").glob("*.jinja")}
    if (folder / "chat_template.jinja").is_file():
        paths[_DEFAULT] = folder / "chat_template.jinja"
    sources = {}
    for name, path in paths.items():
        try:
            sources[name] = read_input(path).decode()
        except (OSError, ValueError) as error:
            raise ModelReferenceError(f"Cannot read {path}: {describe(error)}") from error
    return sources


def _stated_templates(settings: Mapping[str, Any]) -> dict[str, str]:
    """One template, or several by their names: as an object, or as a list of objects."""
    stated = settings.get("chat_template")
    if isinstance(stated, list):
        entries = [entry for entry in stated if isinstance(entry, dict)]
        stated = {entry.get("name"): entry.get("template") for entry in entries}
    named = stated if isinstance(stated, dict) else {_DEFAULT: stated}
    return {str(name): source for name, source in named.items() if isinstance(source, str)}


def _chosen(templates: Mapping[str, str], folder: Path) -> str | None:
    """`default`, or the only one."""
    if len(templates) == 1:
        return next(iter(templates.values()))
    if _DEFAULT not in templates:
        _log.warning("no_default_chat_template", folder=str(folder), found=sorted(templates))
    return templates.get(_DEFAULT)
