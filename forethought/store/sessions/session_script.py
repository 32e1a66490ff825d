"""Runs `sessions.lua`, and turns its refusals into errors."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from forethought.errors import (
    ForethoughtError,
    LeaseLostError,
    RoundMismatchError,
    SessionCorruptError,
    SessionInUseError,
    SessionNotFoundError,
)
from forethought.store.server.connection import Argument, StoreConnection

_SCRIPT = files("forethought.store.sessions").joinpath("sessions.lua").read_text()
_SCRIPT_SHA = sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


async def run_script(
    connection: StoreConnection, keys: tuple[str, str], arguments: Sequence[Argument]
) -> list[Any]:
    """What the script answers after its OK. For the arguments see there.

    Raises:
        LeaseLostError, RoundMismatchError, SessionCorruptError, SessionInUseError,
        SessionNotFoundError: it refuses.
        StoreUnavailableError: it did not answer.
    """

    async def call(client: Redis) -> list[Any]:
        try:
            answer: Any = await client.evalsha(_SCRIPT_SHA, 2, *keys, *arguments)
        except NoScriptError:
            # A new server, or one that was told to forget. The whole text makes it known again.
            answer = await client.eval(_SCRIPT, 2, *keys, *arguments)
        return list(answer)

    word, *rest = await connection.run(call)
    if word != b"OK":
        raise _refusal(word, rest)
    return rest


def not_found() -> SessionNotFoundError:
    """The same whether there is no such session, or one of another tenant."""
    return SessionNotFoundError("no such session")


def _refusal(word: bytes, details: list[bytes]) -> ForethoughtError:
    values = [detail.decode() for detail in details]
    match word:
        case b"NOT_FOUND":
            return not_found()
        case b"LOST":
            return LeaseLostError("the session has another owner, or was deleted")
        case b"IN_USE":
            return SessionInUseError(
                "the session has another owner", metadata={"lease_left_ms": values[0]}
            )
        case b"MISMATCH":
            return RoundMismatchError(
                f"the store expects round {values[0]} at position {values[1]}",
                metadata={"round": values[0], "position": values[1]},
            )
        case _:
            return SessionCorruptError("the stored session cannot be read: state")
