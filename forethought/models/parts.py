"""What every tokenizer format is reduced to."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from forethought.models.chat import ChatTemplate


@dataclass(frozen=True, slots=True)
class TokenizerParts:
    """A tokenizer as read from a folder or from GGUF metadata."""

    backend: Tokenizer
    eos_token_ids: frozenset[int]
    """Tokens that end an answer; may be empty."""
    chat_template: ChatTemplate | None
