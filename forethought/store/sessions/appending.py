"""The usual append: rounds that follow what their owner added last.

The state of a record, as an append left it, says all that the next one has to know. So that one
only has to find the same state again, see `append.lua`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import NewType

import hiredis

from forethought.store.server.connection import Argument, StoreConnection
from forethought.store.sessions.record_codec import pack_round
from forethought.store.sessions.records import CommittedRound, Lease

_SCRIPT = files("forethought.store.sessions").joinpath("append.lua").read_text()
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()

_MAX_ROUNDS = 100
"""At once. More come only after a failure, and Lua takes no more than some thousands of values."""

Tail = NewType("Tail", bytes)
"""The state of a record as an append left it."""


@dataclass(frozen=True, slots=True)
class RecordLocation:
    """Where a record is, and for how long."""

    keys: tuple[str, str]  # the record's, and that of the index
    times: tuple[int, int]  # lease and time to live, ms


async def append_after(
    connection: StoreConnection,
    location: RecordLocation,
    lease: Lease,
    tail: Tail,
    rounds: Sequence[CommittedRound],
) -> Tail | None:
    """Adds rounds. None where that takes another way: see `SessionStore.append`.

    Raises:
        StoreUnavailableError: the server is late. The rounds may have been added.
    """
    addition = _addition(lease, tail, rounds)
    if addition is None:
        return None
    begin, fields = addition
    arguments: list[Argument] = [*location.keys, lease.session_id, tail, *begin, *location.times]
    arguments += fields
    answer = await connection.pipelined(("EVALSHA", _SCRIPT_SHA, 2, *arguments))
    if isinstance(answer, hiredis.ReplyError) and str(answer).startswith("NOSCRIPT"):
        answer = await connection.pipelined(("EVAL", _SCRIPT, 2, *arguments))
    return Tail(answer) if isinstance(answer, bytes) else None


def _addition(
    lease: Lease, tail: Tail, rounds: Sequence[CommittedRound]
) -> tuple[tuple[bytes, ...], list[bytes]] | None:
    """Three pieces of the new state, and the fields of the rounds, name and value by turns.

    None if the tail is not of this lease, or the rounds do not follow it.
    """
    fence, owner, _, status, num_rounds, num_tokens, num_prompt_tokens, created, _, _ = tail.split()
    if fence != b"%d" % lease.fence or owner != lease.owner.encode() or status != b"active":
        return None
    if len(rounds) > _MAX_ROUNDS:
        return None
    number, position = int(num_rounds), int(num_tokens)
    fields: list[bytes] = []
    for each in rounds:
        if (each.round, each.position) != (number, position):
            return None
        fields += (b"r%d" % number, pack_round(lease.session_id, each))
        number += 1
        position += len(each.token_ids)
    middle = b"%s %d %d %s" % (status, number, position, num_prompt_tokens)
    return (fence + b" " + owner, middle, created), fields
