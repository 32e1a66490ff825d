"""What a tokenizer of the `tokenizers` library is made of, as the library writes it down."""

import json
from typing import Any


def component_parts(component: Any, key: str) -> list[dict[str, Any]]:
    """The settings of a component, sequences flattened; empty without one.

    Args:
        component: a normalizer, pre-tokenizer or decoder.
        key: under which a sequence of such components holds them.
    """

    def flatten(settings: dict[str, Any]) -> list[dict[str, Any]]:
        if settings["type"] != "Sequence":
            return [settings]
        return [part for inner in settings[key] for part in flatten(inner)]

    return [] if component is None else flatten(json.loads(component.__getstate__()))


def byte_chars() -> dict[int, str]:
    """The character that stands for each byte in byte-level vocabularies, as GPT-2 has it: what can
    be printed stands for itself, the rest is counted up from 256.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    chars = {byte: chr(byte) for byte in printable}
    chars |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return chars
