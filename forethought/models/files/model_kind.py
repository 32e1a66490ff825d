"""What a folder says that it holds, where that is no model that continues text."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forethought.errors import ModelReferenceError
from forethought.input_files import read_input
from forethought.models.files.json_file import describe
from forethought.models.files.weight_files import what_is_wrong

_CONTINUES_TEXT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForImageTextToText")
_KINDS = {
    "ForMaskedLM": "a masked language model, which fills gaps",
    "ForPreTraining": "a masked language model, which fills gaps",
    "ForSequenceClassification": "a classifier or reward model, which gives a text a score",
    "ForRewardModel": "a reward model, which gives a text a score",
    "RewardModel": "a reward model, which gives a text a score",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a model that finds answers in a text",
    "Model": "a model without a head for tokens, as for embeddings",
}
_NEEDED = "a model that continues text (ForCausalLM) is needed"


def read_config(folder: Path) -> Mapping[str, Any]:
    """config.json; empty without one.

    Raises:
        ModelReferenceError: it is no JSON object.
    """
    path = folder / "config.json"
    try:
        config = json.loads(read_input(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        why = "cannot be read" if isinstance(error, OSError) else "is not JSON"
        wrong = what_is_wrong(path) or f"{path} {why}: {describe(error)}"
        raise ModelReferenceError(wrong) from error
    if not isinstance(config, dict):
        raise ModelReferenceError(f"{path} is not a JSON object")
    return config


def adapter_base(folder: Path) -> str | None:
    """The model that this is only an adapter of, as its adapter_config.json names it."""
    try:
        adapter = json.loads(read_input(folder / "adapter_config.json"))
    except (OSError, ValueError, RecursionError):
        return None
    return str(adapter.get("base_model_name_or_path") or "a model that it does not name")


def check_kind(folder: Path) -> None:
    """Looks at what stands in the folder of a model in the layout of transformers.

    Raises:
        ModelReferenceError: the model does not continue text.
    """
    config = read_config(folder)
    stated = config.get("architectures") or []
    if not isinstance(stated, list):
        raise ModelReferenceError(f"config.json: architectures is {stated!r}, which is no list")
    names = [str(name) for name in stated]
    if config.get("is_encoder_decoder"):
        raise _refusal(names, config, "an encoder and a decoder: it answers a text, and does not")
    if (folder / "modules.json").exists():
        raise _refusal(names, config, "an embedding model of sentence-transformers, which does not")
    brings_code = "AutoModelForCausalLM" in (config.get("auto_map") or {})
    if not names or brings_code or any(name.endswith(_CONTINUES_TEXT) for name in names):
        return
    for suffix, what in _KINDS.items():
        if names[0].endswith(suffix):
            raise _refusal(names, config, f"{what} and does not")


def _refusal(names: list[str], config: Mapping[str, Any], what: str) -> ModelReferenceError:
    name = ", ".join(names) or config.get("model_type", "it")
    return ModelReferenceError(f"{name} is {what} continue text; {_NEEDED}")
