"""Whether a configured store can be used, before a process says that it serves.

Everything is tried that the process will do later, with a session or block of its own, so that what
a user's ACL lacks is found out now. A store that is not there yet is waited for a little. One that
is lost later is another matter: see `connection.py`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex

import structlog
from redis.asyncio import Redis

from forethought.errors import StoreRefusedError, StoreUnavailableError
from forethought.sampling.params import SamplingParams
from forethought.sampling.types import VerificationMode
from forethought.store.blocks.block_store import BlockMode
from forethought.store.server.breaker import BreakerSettings
from forethought.store.server.connection import ConnectionSettings, StoreConnection
from forethought.store.server.refusals import is_lasting
from forethought.store.sessions.records import (
    CommittedRound,
    SessionHead,
    new_owner,
    new_session_id,
)
from forethought.store.sessions.session_store import SessionStore, SessionStoreSettings

_log = structlog.get_logger(__name__)

PATIENCE_S = 10.0
"""Time that a store gets to come up, when everything is started at once."""
_RETRY_S = 0.2
_TIMEOUT_S = 2.0
_TTL_S = 10.0  # of what is left if this process dies in the middle

Check = Callable[[StoreConnection], Awaitable[None]]
"""Uses a store as it will be used. Raises StoreUnavailableError if something fails."""


async def require_store(url: str, check: Check, patience_s: float = PATIENCE_S) -> None:
    """Returns when a store can be used. While it is waited for, the log says what is wrong.

    Raises:
        InvalidArgumentError: the URL is none.
        StoreRefusedError: it cannot be used, or cannot be reached within `patience_s`.
    """
    never = BreakerSettings(max_failures=2**31)
    connection = StoreConnection(
        ConnectionSettings(
            url,
            timeout_s=_TIMEOUT_S,
            breaker=never,
            logs_failures=patience_s > 0,
        )
    )
    deadline = time.monotonic() + patience_s
    try:
        while True:
            try:
                await check(connection)
            except StoreUnavailableError as error:
                cause = error.__cause__ or error
                if is_lasting(cause) or time.monotonic() >= deadline:
                    raise StoreRefusedError(_in_words(error)) from error
            else:
                return
            await asyncio.sleep(_RETRY_S)
    finally:
        await connection.close()


def _in_words(error: StoreUnavailableError) -> str:
    why = error.message.removeprefix("the store failed: ")
    return f"the store (redis_url) cannot be used: {why}"


async def sessions_are_kept(connection: StoreConnection) -> None:
    """Keeps a session, as an orchestrator does, and deletes it."""
    short = SessionStoreSettings(ttl_s=_TTL_S, deleted_ttl_s=1.0)
    store = SessionStore(connection, short)
    tenant = f"start check {token_hex(8)}"
    head = SessionHead(
        session_id=new_session_id(),
        tenant=tenant,
        model="",
        prompt_token_ids=(0,),
        sampling=SamplingParams(),
        mode=VerificationMode.REJECTION,
        max_len=3,
        request=b"",
    )

    async def scripts_are_taken(client: Redis) -> None:
        await client.eval("return redis.call('TYPE', KEYS[1])", 1, "forethought:start-check")

    await connection.run(scripts_are_taken)
    owner = new_owner("start-check")
    lease = await store.create(head, owner)
    await store.append(lease, [CommittedRound(0, 1, (0,), b"")])
    await store.acquire(tenant, head.session_id, owner)
    await store.load(tenant, head.session_id)
    await store.list_page(tenant)
    await store.delete(tenant, head.session_id)


async def require_block_store(url: str, mode: str) -> None:
    """Returns when a tier's store can be used in a `BlockMode`; raises as `require_store` does."""
    if mode != BlockMode.OFF.value:
        await require_store(url, blocks_are_kept(writable=mode == BlockMode.READ_WRITE.value))


def blocks_are_kept(*, writable: bool) -> Check:
    """Keeps a block, as a tier's archive does, and deletes it; or only looks for one."""

    async def check(connection: StoreConnection) -> None:
        key = f"forethought:start-check:{token_hex(8)}"

        async def call(client: Redis) -> None:
            if writable:
                await client.set(key, b"block", px=round(1000 * _TTL_S))
                await client.pexpire(key, round(1000 * _TTL_S))
            else:
                await client.exists(key)
            await client.getrange(key, 0, 5)
            if writable:
                await client.unlink(key)

        await connection.run(call)

    return check
