"""Tokens that stand beside tokenizer.json: added and named by the files around it.

As transformers reads them: `added_tokens_decoder` of tokenizer_config.json, and where that is
missing special_tokens_map.json and added_tokens.json, with their ids; then the tokens that are
named (`eos_token`, `pad_token`, any `…_token`) and those of `extra_special_tokens` and
`additional_special_tokens`, which get the next ids if the vocabulary lacks them.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from tokenizers import AddedToken, Tokenizer

from forethought.errors import ModelReferenceError
from forethought.models.files.json_file import read_json

_log = structlog.get_logger(__name__)

_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_ORDER = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # in which new ids are given
_LISTS = ("extra_special_tokens", "additional_special_tokens")


@dataclass(frozen=True, slots=True)
class NamedTokens:
    """What the files around tokenizer.json say of tokens."""

    added: Mapping[int, AddedToken]
    """By the ids that they must have."""
    are_settings: bool
    """Whether what `added` says of a token wins over what tokenizer.json says of it."""
    names: Mapping[str, str]
    """Special tokens by the names that chat templates use, such as eos_token."""
    unnamed: Sequence[str]
    """Further special tokens."""
    ends: Sequence[str]
    """Every token that some file calls eos_token."""


def read_named_tokens(folder: Path) -> NamedTokens:
    """Raises ModelReferenceError for a file that cannot be read."""
    config = read_json(folder / "tokenizer_config.json")
    special_map = read_json(folder / "special_tokens_map.json")
    is_modern = "added_tokens_decoder" in config
    settings = special_map | config if is_modern else config | special_map
    names = _names(settings)
    unnamed = [
        content
        for key in _LISTS
        if isinstance(settings.get(key), list)
        for content in map(_content, settings[key])
        if content
    ]
    added = _decoder(config.get("added_tokens_decoder"), folder / "tokenizer_config.json")
    if not is_modern:
        added = _legacy(folder / "added_tokens.json", {*names.values(), *unnamed})
    ends = [_content(each.get("eos_token")) for each in (config, special_map)]
    return NamedTokens(added, is_modern, names, unnamed, [end for end in ends if end])


def add_named_tokens(
    backend: Tokenizer, tokens: NamedTokens, folder: Path, max_vocab_size: int
) -> Tokenizer:
    """The tokenizer with these tokens, each with its id.

    Args:
        backend: from tokenizer.json; changed.
        tokens: what to add.
        folder: for messages.
        max_vocab_size: ids from here on stand for nothing that the model can say. Tokens that
            would get one are left out.

    Raises:
        ModelReferenceError: two tokens have one id, or an id cannot be kept.
    """
    before = backend.get_vocab()
    left_out = {
        token.content: token_id
        for token_id, token in tokens.added.items()
        if token_id >= max_vocab_size and token.content not in before
    }
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    kept = left_out.keys() | (set() if tokens.are_settings else known)
    added = {i: token for i, token in sorted(tokens.added.items()) if token.content not in kept}
    missing = {i: token for i, token in added.items() if token.content not in before}
    ids_before = {token_id: content for content, token_id in before.items()}
    for token_id, token in missing.items():
        if token_id in ids_before:
            raise ModelReferenceError(
                f"{folder}: the token {token.content!r} is to have the id {token_id}, which is "
                f"that of {ids_before[token_id]!r} in tokenizer.json"
            )
    backend.add_tokens(list(added.values()))
    if any(backend.token_to_id(token.content) != i for i, token in missing.items()):
        backend = _with_ids(backend, missing, folder)
    known |= {token.content for token in tokens.added.values()}
    for content in dict.fromkeys((*tokens.names.values(), *tokens.unnamed)):
        if content in known:
            continue
        next_id = 1 + max(backend.get_vocab().values(), default=-1)
        if content not in before and next_id >= max_vocab_size:
            left_out[content] = next_id
            continue
        backend.add_special_tokens([AddedToken(content, normalized=False, special=True)])
    if left_out:
        _log.warning("tokens_beyond_the_vocabulary", tokens=left_out, vocab_size=max_vocab_size)
    return backend


def make_special(backend: Tokenizer, contents: Collection[str]) -> None:
    """Takes the added tokens among `contents` out of the text."""
    for token in backend.get_added_tokens_decoder().values():
        if token.content in contents and not token.special:
            flags = {flag: getattr(token, flag) for flag in _FLAGS}
            backend.add_special_tokens([AddedToken(token.content, **flags | {"special": True})])


def _with_ids(backend: Tokenizer, missing: Mapping[int, AddedToken], folder: Path) -> Tokenizer:
    """The library counts on from the last id. A token behind a gap gets its id from the vocabulary
    of the model itself."""
    written = json.loads(backend.to_str())
    contents = {token.content: token_id for token_id, token in missing.items()}
    vocabulary = written["model"].get("vocab")
    if not isinstance(vocabulary, dict):
        raise ModelReferenceError(
            f"{folder}: the ids of {sorted(contents)} do not follow those of tokenizer.json"
        )
    vocabulary |= contents
    for each in written["added_tokens"]:
        each["id"] = contents.get(each["content"], each["id"])
    return Tokenizer.from_str(json.dumps(written))


def _names(settings: dict[str, Any]) -> dict[str, str]:
    ordered = {f"{name}_token": settings.get(f"{name}_token") for name in _ORDER} | settings
    named = {name: value for name, value in ordered.items() if name.endswith("_token")}
    extra = settings.get("extra_special_tokens")
    named |= extra if isinstance(extra, dict) else {}
    contents = {name: _content(value) for name, value in named.items()}
    return {name: content for name, content in contents.items() if content}


def _content(value: Any) -> str:
    """A token is written as a string or as an object with its settings."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _decoder(decoder: Any, path: Path) -> dict[int, AddedToken]:
    try:
        return {_token_id(key): _added_token(value) for key, value in (decoder or {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelReferenceError(f"Cannot read {path}: added_tokens_decoder: {error}") from error


def _token_id(key: str) -> int:
    token_id = int(key)
    if token_id < 0:
        raise ValueError(f"{key} is no id")
    return token_id


def _added_token(value: Any) -> AddedToken:
    content = _content(value)
    if not content:
        raise ValueError(f"{value!r} is no token")
    flags = {flag: bool(value[flag]) for flag in _FLAGS if flag in value}
    return AddedToken(content, **flags)


def _legacy(path: Path, special: set[str]) -> dict[int, AddedToken]:
    ids = read_json(path)
    if not all(type(token_id) is int and token_id >= 0 for token_id in ids.values()):
        raise ModelReferenceError(f"Cannot read {path}: it does not hold ids of tokens")
    if len(set(ids.values())) < len(ids):
        raise ModelReferenceError(f"Cannot read {path}: two tokens have the same id")
    return {
        token_id: AddedToken(content, normalized=content not in special, special=content in special)
        for content, token_id in ids.items()
        if content
    }
