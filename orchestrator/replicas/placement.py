"""Which replica a session goes to: pure functions, the same in every orchestrator.

Sessions that begin alike should meet the keys and values that the first of them left behind. So a
session goes to the replica that its beginning is assigned to by rendezvous hashing (Thaler and
Ravishankar, "Using name-based mappings to increase hit rates", 1998): every replica gets a weight
from a hash of its address and the beginning, and the highest one has it. A replica more or less
moves only the beginnings that it wins or had, and orchestrators need not talk to agree.

A beginning that everybody has, a long system prompt for instance, must not fill one replica while
others idle: one that is far busier than the rest is passed over, and the next in the ranking has
the session. It computes that beginning once, and from then on both have it.
"""

from collections.abc import Sequence
from hashlib import blake2b

BLOCK_TOKENS = 16
"""Tokens in a block of keys and values: less than one is not shared."""

MAX_BLOCKS = 4
"""Blocks of a session's beginning that count. More would part sessions that share a system prompt
and differ later; fewer would bring all together that share a chat template."""

LOAD_FACTOR = 1.25
LOAD_SLACK = 2
"""A replica is passed over with more sessions than `LOAD_FACTOR` times the mean of all, and
`LOAD_SLACK` besides, so that a few sessions stay where their beginning is (consistent hashing with
bounded loads; Mirrokni et al., arXiv 1608.01350)."""


def placement_key(token_ids: Sequence[int], tenant: str) -> bytes:
    """What sessions that may share blocks have in common.

    Full blocks only; all of a session that is shorter than one.
    """
    num_blocks = min(len(token_ids) // BLOCK_TOKENS, MAX_BLOCKS)
    beginning = token_ids[: num_blocks * BLOCK_TOKENS or BLOCK_TOKENS]
    digest = blake2b(tenant.encode(), digest_size=16)
    # A separator that no tenant's name holds and no token is.
    digest.update(b"\xff")
    digest.update(b"".join(token_id.to_bytes(4, "big") for token_id in beginning))
    return digest.digest()


def ranking(key: bytes, addresses: Sequence[str]) -> list[str]:
    """All addresses, the one that has the key first."""
    return sorted(addresses, key=lambda address: (_weight(key, address), address), reverse=True)


def _weight(key: bytes, address: str) -> bytes:
    return blake2b(address.encode(), key=key, digest_size=8).digest()


def place(ranked: Sequence[str], loads: Sequence[float]) -> str:
    """The first of a ranking that is not far busier than all are on average.

    Args:
        ranked: at least one address.
        loads: of each, sessions, in the same order.
    """
    limit = LOAD_FACTOR * sum(loads) / len(loads) + LOAD_SLACK
    within = (address for address, load in zip(ranked, loads, strict=True) if load <= limit)
    return next(within, ranked[0])
