"""The bytes that each token stands for, however its vocabulary spells them.

Byte-level vocabularies write a character for every byte ("Ġthe"), SentencePiece writes U+2581 for a
space ("▁the") and "<0xE2>" for a byte that no other token has. The decoder of a tokenizer knows
that spelling, so its parts are followed for one token as it is in the middle of a text. At its
beginning some decoders drop a space, which is told apart from the tokens.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from forethought.models.text.components import byte_chars, component_parts

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BYTES_OF_CHARS = {char: byte for byte, char in byte_chars().items()}


@dataclass(frozen=True, slots=True)
class TokenTexts:
    """What the tokens of a vocabulary stand for."""

    texts: tuple[bytes | None, ...]
    """By id, not always whole characters; None for special tokens and for ids that no token has."""
    byte_token_ids: frozenset[int]
    """Tokens such as "<0xE2>", that stand in for text which has no token of its own."""
    special_token_ids: Mapping[str, int]
    """By their names."""
    drops_first_space: bool
    """Whether a space that begins a text is not part of it."""


def token_texts(backend: Tokenizer) -> TokenTexts | None:
    """What the tokens stand for; None with a decoder that is not known here."""
    parts = component_parts(backend.decoder, "decoders")
    if not parts or not all(_is_known(part) for part in parts):
        return None
    added = backend.get_added_tokens_decoder()
    vocabulary = backend.get_vocab()
    texts: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, token_id in vocabulary.items():
        texts[token_id] = _text(token, parts)
    for token_id, added_token in added.items():
        texts[token_id] = None if added_token.special else added_token.content.encode()
    has_byte_tokens = any(part["type"] == "ByteFallback" for part in parts)
    return TokenTexts(
        texts=tuple(texts),
        byte_token_ids=frozenset(
            token_id
            for token, token_id in vocabulary.items()
            if has_byte_tokens and _BYTE_TOKEN.fullmatch(token)
        ),
        special_token_ids={
            token.content: token_id for token_id, token in added.items() if token.special
        },
        drops_first_space=any(_drops_first_space(part) for part in parts),
    )


def _is_known(part: dict[str, Any]) -> bool:
    match part["type"]:
        case "ByteLevel" | "ByteFallback" | "Metaspace" | "Fuse" | "Strip":
            return True
        case "Replace":
            return "String" in part["pattern"]
    return False


def _text(token: str, parts: list[dict[str, Any]]) -> bytes:
    for part in parts:
        match part["type"]:
            case "Replace":
                token = token.replace(part["pattern"]["String"], part["content"])
            case "Metaspace":
                token = token.replace(part["replacement"], " ")
            case "ByteFallback" if byte := _BYTE_TOKEN.fullmatch(token):
                return bytes([int(byte[1], 16)])
            case "ByteLevel" if _BYTES_OF_CHARS.keys() >= set(token):
                return bytes(_BYTES_OF_CHARS[char] for char in token)
    return token.encode("utf-8", "surrogatepass")


def _drops_first_space(part: dict[str, Any]) -> bool:
    match part["type"]:
        case "Strip":
            return bool(part["content"] == " " and part["start"])
        case "Metaspace":
            return bool(part["prepend_scheme"] != "never")
    return False
