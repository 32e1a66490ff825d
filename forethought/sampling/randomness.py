"""Keyed randomness: every draw is a pure function of (seed, stream, round, position).

There is no generator whose state could depend on what ran before. A round that is retried, or
goes on in another process after a failure, draws the same numbers.

A draw is the BLAKE2b hash (RFC 7693) of its key: part of every Python, the same on every machine,
without any structure that neighbouring rounds or positions could share, and faster to set up than
a counter-based generator (2 against 20 microseconds for numpy's Philox) when one number is
needed at a time.

Each use has a stream of its own. Were the residual drawn with the noise that chose the draft
token, a rejected guess would say something about its replacement, and the output would be biased.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Stream(IntEnum):
    """What a draw is for. Values are part of the reproducibility contract: never renumber."""

    DRAFT = 1  # choosing a draft token from q
    ACCEPT = 2  # the accept test of a draft token
    RESIDUAL = 3  # choosing a recovered token from the residual on the support
    TAIL = 4  # choosing the token outside the support; at the bonus position, from all of p


class Randomness(Protocol):
    """A source of uniform draws for one round."""

    def uniform(self, stream: Stream, position: int) -> float:
        """A draw from [0, 1) for the token at the absolute `position` in the session."""
        ...


_KEY = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class KeyedRandomness:
    """The draws of one round of one session."""

    seed: int  # 64 bits
    round: int  # 64 bits

    def uniform(self, stream: Stream, position: int) -> float:
        """A draw from [0, 1): 53 random bits, as many as a double holds."""
        key = _KEY.pack(self.seed, stream, self.round, position)
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return (int.from_bytes(digest, "little") >> 11) * 2.0**-53
