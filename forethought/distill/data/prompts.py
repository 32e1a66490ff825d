"""What each sample of the data begins with: a pure function of its number."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forethought.distill.data.openings import alternating
from forethought.distill.data.turns import Turns
from forethought.errors import InvalidArgumentError
from forethought.input_files import read_input
from forethought.models.text.tokenizer import TextTokenizer

GIVEN_TEXT = -1
"""Kind of samples that continue a given text."""
_KEY = struct.Struct("<QQQ")


def uniform(seed: int, sample: int, position: int) -> float:
    """The draw in [0, 1) for a token of a sample: a function of these three, so that a run that was
    interrupted goes on with the same numbers."""
    digest = hashlib.blake2b(_KEY.pack(seed, sample, position), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a sample begins."""

    token_ids: Sequence[int]  # at least one
    kind: int  # number in `openings.KINDS`, or GIVEN_TEXT
    temperature: float  # of the answer
    asks: bool  # whether the target first continues it as the user


class Prompts:
    """Openings after the chat template's user header, and pieces of given texts in between.

    Args:
        tokenizer: of the target.
        temperatures: of answers, in equal shares.
        texts: to be continued, as many pieces of them as there are openings.
        piece_len: tokens of a piece.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        temperatures: Sequence[float],
        texts: Sequence[Path] = (),
        piece_len: int = 128,
    ) -> None:
        self.turns = Turns.of(tokenizer)
        self._temperatures = temperatures
        header = list(self.turns.header)
        self._openings = [
            (kind, header + (tokenizer.encode(text, add_special_tokens=False) if text else []))
            for kind, text in alternating()
        ]
        self._pieces: list[list[int]] = []
        for path in texts:
            ids = tokenizer.encode(read_text(path), add_special_tokens=True)
            self._pieces += [
                ids[at : at + piece_len] for at in range(0, max(len(ids) - piece_len, 1), piece_len)
            ]

    def __getitem__(self, sample: int) -> Prompt:
        turn, is_text = divmod(sample, 2) if self._pieces else (sample, 0)
        round_, index = divmod(turn, len(self._openings))
        # Shifted from round to round, so that each opening is answered at each temperature.
        temperature = self._temperatures[(index + round_) % len(self._temperatures)]
        if is_text:
            piece = self._pieces[turn % len(self._pieces)]
            return Prompt(piece, GIVEN_TEXT, temperature, asks=False)
        kind, token_ids = self._openings[index]
        return Prompt(token_ids, kind, temperature, asks=True)


def read_text(path: Path) -> str:
    """A text to continue.

    Raises:
        InvalidArgumentError: it cannot be read, is too large or empty.
    """
    try:
        text = read_input(path).decode().replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise InvalidArgumentError({"texts": f"{path}: {error.strerror}"}) from error
    except UnicodeDecodeError as error:
        message = f"{path} is not UTF-8 from byte {error.start} on"
        raise InvalidArgumentError({"texts": message}) from error
    if not text.strip():
        raise InvalidArgumentError({"texts": f"{path} is empty"})
    return text
