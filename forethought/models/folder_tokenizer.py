"""Tokenizers from a model folder: tokenizer.json and the settings around it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from forethought.errors import ModelReferenceError
from forethought.models.chat import ChatTemplate
from forethought.models.parts import TokenizerParts


def read_folder_tokenizer(folder: Path) -> TokenizerParts:
    """Reads tokenizer.json and, where they are there, tokenizer_config.json,
    special_tokens_map.json, chat_template.jinja, generation_config.json and config.json.
    Raises ModelReferenceError.
    """
    backend = _read_backend(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    special_tokens = _special_tokens(_read_json(folder / "special_tokens_map.json") | config)
    source = _template_source(folder / "chat_template.jinja", config)
    return TokenizerParts(
        backend=backend,
        eos_token_ids=_eos_token_ids(folder, backend, special_tokens),
        chat_template=None if source is None else ChatTemplate(source, special_tokens),
    )


def _read_backend(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelReferenceError(
            f"{path.parent} has no tokenizer.json. Make one where transformers is installed: "
            f"transformers.AutoTokenizer.from_pretrained(MODEL).save_pretrained({str(path.parent)!r})"
        )
    try:
        backend = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust library raises bare exceptions for whatever it cannot read.
        raise ModelReferenceError(f"Cannot read {path}: {error}") from error
    # Settings of the training run that some files carry along: a prompt is never cut or padded.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty where there is no file."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ModelReferenceError(f"Cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ModelReferenceError(f"Cannot read {path}: it does not hold a JSON object")
    return value


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The named special tokens, by name; each is written as a string or as an AddedToken object."""
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    contents = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in named.items()
    }
    return {name: value for name, value in contents.items() if isinstance(value, str)}


def _template_source(jinja_file: Path, config: Mapping[str, Any]) -> str | None:
    """The file wins over the setting; of several named templates, `default`, or the only one."""
    try:
        if jinja_file.is_file():
            return jinja_file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ModelReferenceError(f"Cannot read {jinja_file}: {error}") from error
    template = config.get("chat_template")
    if isinstance(template, list):
        entries = [entry for entry in template if isinstance(entry, dict)]
        named = {entry.get("name"): entry.get("template") for entry in entries}
        template = next(iter(named.values())) if len(named) == 1 else named.get("default")
    return template if isinstance(template, str) else None


def _eos_token_ids(
    folder: Path, backend: Tokenizer, special_tokens: Mapping[str, str]
) -> frozenset[int]:
    """From the first of generation_config.json, config.json and the eos token that names any."""
    for name in ("generation_config.json", "config.json"):
        stated = _read_json(folder / name).get("eos_token_id")
        ids = stated if isinstance(stated, list) else [stated]
        if token_ids := frozenset(token_id for token_id in ids if type(token_id) is int):
            return token_ids
    token_id = backend.token_to_id(special_tokens.get("eos_token", ""))
    return frozenset() if token_id is None else frozenset({token_id})
