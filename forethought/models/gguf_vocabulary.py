"""The `tokenizer.*` pairs of a GGUF file as checked values.

Metadata is typed pair by pair and written by many converters, so this is where a wrong type, a
missing list or lists of different lengths are found, not in the middle of building a tokenizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeVar

from forethought.errors import ModelReferenceError
from forethought.models.gguf_header import GgufMetadata, read_gguf_metadata

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
}


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
    add_space_prefix: bool | None
    chat_template: str | None

    def of_type(self, *kinds: TokenType) -> list[str]:
        pairs = zip(self.tokens, self.types, strict=True)
        return [token for token, kind in pairs if kind in kinds]


def read_gguf_vocabulary(path: Path) -> GgufVocabulary:
    """Raises ModelReferenceError for a file without a vocabulary, or with one that does not fit."""
    fields = _Fields(path, read_gguf_metadata(path))
    tokens = fields.sequence("ggml.tokens", str)
    types = fields.sequence("ggml.token_type", int) or [TokenType.NORMAL] * len(tokens)
    scores = fields.sequence("ggml.scores", float) or [0.0] * len(tokens)
    if not tokens or not len(tokens) == len(types) == len(scores):
        raise fields.refusal("ggml.tokens", "is missing, or token_type or scores differ in length")
    token_ids = {name: fields.scalar(f"ggml.{key}", int) for name, key in _TOKEN_IDS.items()}
    return GgufVocabulary(
        model=fields.scalar("ggml.model", str) or "",
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
