"""How few tokens a text can make, so that a hopeless prompt is refused without being tokenized.

That can be told only where no text is lost on the way to tokens. Many tokenizers do lose some: they
strip accents, drop whitespace, or make one unknown token of a word of any length. Every part that
is not known to keep all text therefore means that any text may be short.
"""

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from forethought.models.text.components import byte_chars, component_parts

_MAX_SHRINKAGE = 8
"""Bytes of UTF-8 that a normalizer makes one of, at most. Composition makes 8 bytes of Greek 3,
compatibility 4 bytes of a letter 1, both together no less than a quarter of what they find. This is
twice as much, for letters to come."""


@dataclass(frozen=True, slots=True)
class TextLengths:
    """What can be told of a text's length in tokens from its length in bytes."""

    max_bytes_per_token: int
    lost_bytes: bytes
    """Bytes that there is no token for, so that they vanish."""

    def min_num_tokens(self, text: str) -> int:
        """Tokens that `text` makes at least."""
        kept = text.encode(errors="surrogatepass").translate(None, delete=self.lost_bytes)
        return -(-len(kept) // self.max_bytes_per_token)


def text_lengths(backend: Tokenizer) -> TextLengths | None:
    """What can be told with this tokenizer; None for nothing."""
    pre_tokenizer = component_parts(backend.pre_tokenizer, "pretokenizers")
    normalizer = component_parts(backend.normalizer, "normalizers")
    added = backend.get_added_tokens_decoder().values()
    if type(backend.model).__name__ != "BPE":
        return None
    if not all(_keeps_text(part) for part in (*pre_tokenizer, *normalizer)):
        return None
    # Such a token takes the whitespace around it along, however much there is.
    if any(token.lstrip or token.rstrip for token in added):
        return None
    vocabulary = backend.get_vocab(with_added_tokens=False)
    lengths = [len(token.content.encode()) for token in added]
    if any(part["type"] == "ByteLevel" for part in pre_tokenizer):
        lengths += map(len, vocabulary)  # each byte is one character
        lost_bytes = bytes(byte for byte, char in byte_chars().items() if char not in vocabulary)
    elif backend.model.byte_fallback and all(f"<0x{b:02X}>" in vocabulary for b in range(256)):
        lengths += (len(token.encode()) for token in vocabulary)
        lost_bytes = b""
    else:
        return None
    longest = max(lengths, default=0) * (_MAX_SHRINKAGE if normalizer else 1)
    return TextLengths(longest, lost_bytes) if longest else None


def _keeps_text(part: dict[str, Any]) -> bool:
    match part["type"]:
        case "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" | "Prepend":
            return True
        case "ByteLevel" | "Digits" | "Metaspace":
            return True
        case "Replace":
            old, new = part["pattern"].get("String"), part["content"]
            return old is not None and len(new.encode()) >= len(old.encode())
        case "Split" | "Punctuation":
            return bool(part["behavior"] != "Removed")
    return False
