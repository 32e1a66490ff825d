"""Tokenizers from a model folder: tokenizer.json and the settings around it."""

from pathlib import Path

import structlog
from tokenizers import Tokenizer

from forethought.errors import ModelReferenceError
from forethought.models.chat.template import ChatTemplate
from forethought.models.chat.template_files import template_source
from forethought.models.files.json_file import lfs_pointer, read_json
from forethought.models.text.end_tokens import stated_ends, well_known_ends, with_text_configs
from forethought.models.text.named_tokens import add_named_tokens, make_special, read_named_tokens
from forethought.models.text.panics import panics_as_errors
from forethought.models.text.parts import TokenizerParts

_log = structlog.get_logger(__name__)

_OTHER_FORMATS = ("vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "tiktoken.model",
                  "tekken.json", "vocab.txt")  # fmt: skip
_MAX_TOKENIZER_BYTES = 2**28  # eight times the largest
_MAX_VOCAB_SIZE = 1 << 24  # of a folder whose config.json does not say: sixty times the largest


def read_folder_tokenizer(folder: Path) -> TokenizerParts:
    """Reads tokenizer.json and, where they are there, tokenizer_config.json, added_tokens.json,
    special_tokens_map.json, the chat template, generation_config.json and config.json.
    Raises ModelReferenceError.
    """
    config = read_json(folder / "config.json")
    max_vocab_size = _vocab_size(config)
    named = read_named_tokens(folder)
    backend = _read_backend(folder / "tokenizer.json")
    backend = add_named_tokens(backend, named, folder, max_vocab_size)
    stated = stated_ends(read_json(folder / "generation_config.json"), config)
    added = backend.get_added_tokens_decoder().values()
    special = [token.content for token in added if token.special]
    ends = {*named.ends, *well_known_ends([token.content for token in added], special)}
    make_special(backend, ends)
    vocabulary = backend.get_vocab()
    end_ids = {vocabulary[end] for end in ends if end in vocabulary} | stated
    limit = max(max_vocab_size, 1 + max(vocabulary.values(), default=-1))
    unknown: list[str | int] = [token_id for token_id in end_ids if token_id >= limit]
    unknown += [end for end in named.ends if end not in vocabulary]
    if unknown:
        _log.warning("end_tokens_beyond_the_vocabulary", tokens=unknown, folder=str(folder))
    source = template_source(folder)
    return TokenizerParts(
        backend=backend,
        eos_token_ids=frozenset(token_id for token_id in end_ids if token_id < limit),
        chat_template=None if source is None else ChatTemplate(source, named.names),
        special_tokens=named.names,
    )


def _vocab_size(config: dict[str, object]) -> int:
    """Tokens that the model has scores for; many where config.json does not say."""
    sizes = [part.get("vocab_size") for part in with_text_configs(config)]
    return max((size for size in sizes if type(size) is int), default=_MAX_VOCAB_SIZE)


def _read_backend(path: Path) -> Tokenizer:
    if not path.is_file():
        found = [name for name in _OTHER_FORMATS if (path.parent / name).is_file()]
        instead = f" (it has {' and '.join(found)})" if found else ""
        raise ModelReferenceError(
            f"{path.parent} has no tokenizer.json{instead}. Make one where transformers is "
            "installed: transformers.AutoTokenizer.from_pretrained(MODEL)"
            f".save_pretrained({str(path.parent)!r})"
        )
    num_bytes = path.stat().st_size
    if num_bytes > _MAX_TOKENIZER_BYTES:
        raise ModelReferenceError(
            f"Cannot read {path}: it holds {num_bytes:,} bytes, more than the "
            f"{_MAX_TOKENIZER_BYTES:,} of any tokenizer"
        )
    try:
        with panics_as_errors():
            backend = Tokenizer.from_file(str(path))
    except Exception as error:
        # The Rust library raises bare exceptions for whatever it cannot read.
        cause = lfs_pointer(path) or str(error)
        raise ModelReferenceError(f"Cannot read {path}: {cause}") from error
    # Settings of the training run that some files carry along: a prompt is never cut or padded.
    backend.no_truncation()
    backend.no_padding()
    return backend
