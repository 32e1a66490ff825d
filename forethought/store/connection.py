"""A client of one Redis or Valkey server whose troubles are short.

redis-py by default waits 5 seconds for an answer and tries again for most of a minute. Here a call
ends within its time limit, whatever it waits for: a free connection, the network, the server. Only
what is refused or cut off at once, as by a server that was started again meanwhile, is tried a
second time: all our commands may be repeated. A breaker stands before all of it.

An answer belongs to its call: redis-py closes a connection whose call is cancelled before its
answer was read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import hiredis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from forethought.errors import InvalidArgumentError, StoreUnavailableError
from forethought.store.breaker import Breaker, BreakerSettings, BreakerState
from forethought.store.pipeline import Pipeline

Result = TypeVar("Result")

Argument: TypeAlias = bytes | str | int
"""Of a command."""

_PROTOCOL = 2  # all servers speak it, and nothing here needs more


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where the store is, and how long to wait for it."""

    url: str = field(repr=False)
    """`redis://user:password@host:port/db`, `rediss://` for TLS, `unix://` for a socket. What
    redis-py takes in the query works here, such as `?ssl_ca_certs=/path/ca.pem`."""
    connect_timeout_s: float = 0.2
    timeout_s: float = 0.3
    """For a whole call, connecting included."""
    max_connections: int = 8
    """Calls at a time. Others wait, within their time limit."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class StoreConnection:
    """Makes calls, within their time, or says why not. Connects when first used.

    Belongs to the event loop that makes the first call.

    Raises:
        InvalidArgumentError: the URL is none.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._timeout_s = settings.timeout_s
        self._breaker = Breaker(settings.breaker)
        try:
            pool = BlockingConnectionPool.from_url(
                settings.url,
                max_connections=settings.max_connections,
                timeout=settings.timeout_s,
                socket_connect_timeout=settings.connect_timeout_s,
                socket_timeout=settings.timeout_s,
                socket_read_size=2**20,
                retry=Retry(NoBackoff(), 1, (exceptions.ConnectionError,)),
                protocol=_PROTOCOL,
                maint_notifications_config=MaintNotificationsConfig(enabled=False),
            )
        except ValueError as error:
            raise InvalidArgumentError({"redis_url": str(error)}) from error
        self._client = Redis.from_pool(pool)
        self._pipeline = Pipeline(pool.make_connection, settings.timeout_s)

    @property
    def state(self) -> BreakerState:
        """What the next call can expect."""
        return self._breaker.state

    async def run(self, call: Callable[[Redis], Awaitable[Result]]) -> Result:
        """Makes one call.

        Raises:
            StoreUnavailableError: the server cannot be reached, is late, or refuses; or it did so
                before, and this call was not made at all.
        """
        if not self._breaker.admits():
            raise StoreUnavailableError("the store failed just now and is left alone for a while")
        try:
            async with asyncio.timeout(self._timeout_s):
                result = await call(self._client)
        except exceptions.ResponseError as error:
            # It is there, and refuses: out of memory, read-only, no permission.
            self._breaker.succeeded()
            raise _unavailable(error) from error
        except (OSError, exceptions.RedisError) as error:  # a TimeoutError is an OSError
            self._breaker.failed()
            raise _unavailable(error) from error
        except BaseException:
            self._breaker.given_up()
            raise
        self._breaker.succeeded()
        return result

    async def pipelined(self, command: Sequence[Argument]) -> Any:
        """The answer to a command on the connection that all such calls share: the cheap way.

        None where it is not open, or the connection ended: `run` has another one, and says what is
        wrong. A refusal is a `hiredis.ReplyError`.

        Raises:
            StoreUnavailableError: the server is late.
        """
        if self._breaker.state is not BreakerState.CLOSED:
            return None
        answer = self._pipeline.send(_pack(tuple(command)))
        if answer is None:
            self._pipeline.connect()
            return None
        try:
            reply = await answer
        except TimeoutError as error:
            self._breaker.failed()
            raise _unavailable(error) from error
        except ConnectionError:
            return None
        self._breaker.succeeded()
        return reply

    async def close(self) -> None:
        """Closes all connections."""
        await self._pipeline.close()
        await self._client.aclose(close_connection_pool=True)


# Its declaration takes tuples of one argument only.
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)


def _unavailable(error: Exception) -> StoreUnavailableError:
    """Names the cause, and not redis-py's message, which may quote what was sent."""
    cause = type(error).__name__
    return StoreUnavailableError(f"the store failed: {cause}", metadata={"cause": cause})
