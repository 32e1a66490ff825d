"""What every tokenizer format is reduced to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from forethought.models.chat.template import ChatTemplate


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """A tokenizer as read from a folder or from GGUF metadata."""

    backend: Tokenizer
    eos_token_ids: frozenset[int]
    """Tokens that end an answer; may be empty."""
    chat_template: ChatTemplate | None
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    """By their names, such as eos_token."""
