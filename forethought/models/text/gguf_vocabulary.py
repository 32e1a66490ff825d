"""The `tokenizer.*` pairs of a GGUF file as checked values.

Metadata is typed pair by pair and written by many converters, so this is where a wrong type, a
missing list or lists of different lengths are found, not in the middle of building a tokenizer.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

import structlog

from forethought.errors import ModelReferenceError
from forethought.models.files.gguf_header import GgufMetadata, read_gguf_metadata

_log = structlog.get_logger(__name__)

_Scalar = TypeVar("_Scalar", str, int, float, bool)

_TOKEN_IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "eot_token": "eot_token_id",
    "eom_token": "eom_token_id",
    "unk_token": "unknown_token_id",
    "pad_token": "padding_token_id",
    "sep_token": "seperator_token_id",  # spelled so in the format
    "mask_token": "mask_token_id",
    "fim_pad_token": "fim_pad_token_id",
    "fim_rep_token": "fim_rep_token_id",
    "fim_sep_token": "fim_sep_token_id",
}
_DEFAULT_TOKEN_IDS = {"llama": {"bos_token": 1, "eos_token": 2, "unk_token": 0}}
"""By the kind of tokenizer, of files that do not say."""

_NOT_SUPPORTED = (
    "ggml.remove_extra_whitespaces",
    "ggml.treat_whitespace_as_suffix",
    "ggml.precompiled_charsmap",
    "ggml.suppress_tokens",
    "ggml.add_sep_token",
)
"""Keys that change tokens and are not computed here: refused if set."""


class TokenType(IntEnum):
    """tokenizer.ggml.token_type: what a token is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class GgufVocabulary:
    """V tokens and how text becomes them. What a file does not say is None or empty."""

    model: str
    """tokenizer.ggml.model: the kind of tokenizer."""
    pre: str | None
    """tokenizer.ggml.pre: the name of the pre-tokenizer."""
    tokens: Sequence[str]  # [V], by id
    types: Sequence[int]  # [V], values of TokenType
    scores: Sequence[float]  # [V] for "llama"
    merges: Sequence[str]  # by rank, each "left right"
    special_token_ids: Mapping[str, int]
    """By the names that chat templates use: bos_token, eos_token and so on."""
    add_bos: bool | None
    add_eos: bool
    add_space_prefix: bool | None
    chat_template: str | None

    def of_type(self, *kinds: TokenType) -> list[str]:
        pairs = zip(self.tokens, self.types, strict=True)
        return [token for token, kind in pairs if kind in kinds]


def read_gguf_vocabulary(path: Path) -> GgufVocabulary:
    """Raises ModelReferenceError for a file without a vocabulary, or with one that does not fit."""
    fields = _Fields(path, read_gguf_metadata(path))
    model = fields.scalar("ggml.model", str) or ""
    for name in _NOT_SUPPORTED:
        if fields.metadata.get(f"tokenizer.{name}"):
            raise fields.refusal(name, "is set, which is not supported")
    tokens = fields.sequence("ggml.tokens", str)
    types = fields.sequence("ggml.token_type", int) or [TokenType.NORMAL] * len(tokens)
    scores = fields.sequence("ggml.scores", float) or [0.0] * len(tokens)
    if not tokens or not len(tokens) == len(types) == len(scores):
        raise fields.refusal("ggml.tokens", "is missing, or token_type or scores differ in length")
    if len(set(tokens)) < len(tokens):
        (token, _count), *_ = Counter(tokens).most_common(1)
        raise fields.refusal("ggml.tokens", f"has the token {token!r} twice")
    token_ids = {name: fields.scalar(f"ggml.{key}", int) for name, key in _TOKEN_IDS.items()}
    beyond = {name: i for name, i in token_ids.items() if i is not None and i >= len(tokens)}
    if beyond:
        _log.warning("gguf_tokens_beyond_the_vocabulary", tokens=beyond, vocab_size=len(tokens))
    defaults = _DEFAULT_TOKEN_IDS.get(model, {})
    token_ids = {
        name: defaults.get(name) if token_id is None or name in beyond else token_id
        for name, token_id in token_ids.items()
    }
    return GgufVocabulary(
        model=model,
        pre=fields.scalar("ggml.pre", str),
        tokens=tokens,
        types=types,
        scores=scores,
        merges=fields.sequence("ggml.merges", str),
        special_token_ids={
            name: token_id
            for name, token_id in token_ids.items()
            if token_id is not None and 0 <= token_id < len(tokens)
        },
        add_bos=fields.scalar("ggml.add_bos_token", bool),
        add_eos=bool(fields.scalar("ggml.add_eos_token", bool)),
        add_space_prefix=fields.scalar("ggml.add_space_prefix", bool),
        chat_template=fields.scalar("chat_template", str),
    )


@dataclass(frozen=True, slots=True)
class _Fields:
    """Typed access to the pairs below `tokenizer.`."""

    path: Path
    metadata: GgufMetadata

    def scalar(self, name: str, kind: type[_Scalar]) -> _Scalar | None:
        value = self.metadata.get(f"tokenizer.{name}")
        if value is None or type(value) is kind:
            return value
        raise self.refusal(name, f"is not a {kind.__name__}")

    def sequence(self, name: str, kind: type[_Scalar]) -> Sequence[_Scalar]:
        """Empty if the file lacks it. All values of a GGUF array have one type."""
        values = self.metadata.get(f"tokenizer.{name}", [])
        if isinstance(values, list) and all(type(value) is kind for value in values[:1]):
            return values
        raise self.refusal(name, f"is not an array of {kind.__name__}")

    def refusal(self, name: str, what: str) -> ModelReferenceError:
        return ModelReferenceError(f"Cannot read {self.path}: its tokenizer.{name} {what}.")
