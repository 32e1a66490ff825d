"""Keyed randomness: every draw is a pure function of (seed, stream, round, position).

There is no generator whose state could depend on what ran before. A round that is retried, or
goes on in another process after a failure, draws the same numbers.

A draw is the BLAKE2b hash (RFC 7693) of its key: part of every Python, the same on every machine,
without any structure that neighbouring rounds or positions could share, and faster to set up than
a counter-based generator (2 against 20 microseconds for numpy's Philox) when one number is
needed at a time.

Each use has a stream of its own. Were the residual drawn with the noise that chose the draft
token, a rejected guess would say something about its replacement, and the output would be biased.

Coupled sessions need noise for every token of the vocabulary at every position, the same on the
draft, the target and the orchestrator, and in every round. It is a hash of a hash: BLAKE2b of seed
and position makes a key, from which SplitMix64 (Steele, Lea and Flood, 2014) counts by token id.
`forethought.engine.rows.coupling` chooses by it among whole rows.
"""

import hashlib
import math
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
    COUPLING = 5  # the noise that draft and target share; not keyed by round


class Randomness(Protocol):
    """A source of uniform draws for one round."""

    def uniform(self, stream: Stream, position: int) -> float:
        """A draw from [0, 1) for the token at the absolute `position` in the session."""
        ...

    def exponential(self, position: int, token_id: int) -> float:
        """The noise of a token at `position`: exponentially distributed, the same in each round."""
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

    def exponential(self, position: int, token_id: int) -> float:
        """-log of a draw from (0, 1): 52 random bits and a half, which a double holds without
        rounding. Rounded up to 1 it would be a noise of zero, which beats any probability.
        """
        bits = _splitmix64(coupling_key(self.seed, position), token_id)
        return -math.log(((bits >> EXPONENTIAL_SHIFT) + 0.5) * EXPONENTIAL_UNIT)


def coupling_key(seed: int, position: int) -> int:
    """64 bits that key the noise of all tokens at a position."""
    key = _KEY.pack(seed, Stream.COUPLING, 0, position)
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")


SPLITMIX64_STEP = 0x9E3779B97F4A7C15
SPLITMIX64_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
"""Shifts and factors of the two steps of the output function."""
SPLITMIX64_LAST_SHIFT = 31
EXPONENTIAL_SHIFT, EXPONENTIAL_UNIT = 12, 2.0**-52
"""How 64 bits become a draw from (0, 1)."""


def _splitmix64(seed: int, index: int) -> int:
    """The number at `index` of the sequence that SplitMix64 makes of a 64-bit seed."""
    bits = (seed + (index + 1) * SPLITMIX64_STEP) % 2**64
    for shift, factor in SPLITMIX64_MIX:
        bits = (bits ^ (bits >> shift)) * factor % 2**64
    return bits ^ (bits >> SPLITMIX64_LAST_SHIFT)
