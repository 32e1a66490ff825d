"""The configuration of a model, as transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forethought.engine.model.positions import refuse_unknown_scaling
from forethought.models.files.model_kind import read_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def read_settings(folder: Path) -> PreTrainedConfig:
    """The configuration in a folder.

    Raises:
        ValueError: it is of a model that this transformers does not know.
    """
    from transformers import CONFIG_MAPPING, AutoConfig, __version__  # noqa: PLC0415

    stored = read_config(folder)
    model_type = stored.get("model_type")
    if model_type is None:
        raise ValueError("config.json names no model_type")
    if model_type not in CONFIG_MAPPING:
        if "auto_map" in stored:
            raise ValueError(
                f"the model type {model_type!r} needs code of its own (auto_map), and code that "
                "comes with a model is not run here"
            )
        raise ValueError(f"transformers {__version__} does not know the model type {model_type!r}")
    try:
        settings = AutoConfig.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # of many classes, around what is wrong
        raise ValueError(f"config.json: {error.__cause__ or error}") from error
    refuse_unknown_scaling(settings)
    return settings
