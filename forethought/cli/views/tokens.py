"""How tokens look: a colour for each origin, and texts that keep a terminal in order."""

import codecs
import unicodedata
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from forethought.generation import Verdict
from forethought.sampling.types import TokenOrigin

ORIGIN_STYLES = {
    TokenOrigin.ACCEPTED: "green",
    TokenOrigin.RECOVERED: "yellow",
    TokenOrigin.BONUS: "cyan",
}
VERDICT_STYLES = {
    Verdict.ACCEPTED: "green",
    Verdict.REJECTED: "red",
    Verdict.DROPPED: "dim",
}

# Line and paragraph separators, and what turns the direction of all that follows.
_TURNS_LINES = frozenset("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def legend() -> Text:
    """What the colours mean."""
    return Text(" ").join(Text(origin.value, style) for origin, style in ORIGIN_STYLES.items())


def harmless(text: str) -> str:
    """`text` with control characters as visible symbols; tabs and line ends stay.

    A model may well write an escape sequence; it must not reach the terminal.
    """
    return "".join(
        _visible(character) if _is_control(character) and character not in "\n\t" else character
        for character in text
    )


def is_unicode(out: TextIO) -> bool:
    """Whether any text can be written there, as it can where no encoding is needed."""
    encoding = getattr(out, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


def quoted(text: str, width: int) -> str:
    """`text` on one line in quotes, so that its spaces show; at most `width` columns wide."""
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
    escaped = "'" + "".join(_visible(c) if _is_control(c) else c for c in escaped) + "'"
    if cell_len(escaped) <= width:
        return escaped
    return set_cell_size(escaped, width - 1).rstrip() + "…"


def probability(value: float) -> str:
    """Three decimals, and never a zero that is none: '0.913', '3e-05', '0'."""
    if value == 0:
        return "0"
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}"


def _is_control(character: str) -> bool:
    return unicodedata.category(character) == "Cc" or character in _TURNS_LINES


def _visible(character: str) -> str:
    number = ord(character)
    if number < 0x20:
        return chr(0x2400 + number)  # the symbols for control characters, U+2400 to U+241F
    if number == 0x7F:
        return "␡"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
