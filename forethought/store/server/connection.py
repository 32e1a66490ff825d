"""A client of one Redis or Valkey server, or of a cluster of them, whose troubles are short.

redis-py by default waits 5 seconds for an answer and tries again for most of a minute. Here a call
ends within its time limit, whatever it waits for: a free connection, the network, the server. Only
what is refused or cut off at once, as by a server that was started again meanwhile, is tried a
second time: all our commands may be repeated. A breaker stands before all of it.

A server says itself whether it is one of a cluster. Then redis-py's client for clusters takes over,
which follows slots wherever they go; the connection that calls share is for single servers.

An answer belongs to its call: redis-py closes a connection whose call is cancelled before its
answer was read.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, cast

import hiredis
import structlog
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from forethought.configuration.store_url import describe_url_problem
from forethought.errors import InvalidArgumentError, StoreUnavailableError
from forethought.store.server.breaker import Breaker, BreakerSettings, BreakerState
from forethought.store.server.pipeline import Pipeline
from forethought.store.server.refusals import describe

_log = structlog.get_logger(__name__)

Result = TypeVar("Result")

Argument: TypeAlias = bytes | str | int
"""Of a command."""

_PROTOCOL = 2  # all servers speak it, and nothing here needs more
_CLUSTER_RETRIES = 3
"""Of a call whose slot moved, or whose server was lost, within the call's time limit."""
_SAID_AGAIN_S = 60.0


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """Where the store is, and how long to wait for it."""

    url: str = field(repr=False)
    """`redis://user:password@host:port/db`, `rediss://` for TLS, `unix://` for a socket. What
    redis-py takes in the query works here, such as `?ssl_ca_certs=/path/ca.pem`. Of a cluster, any
    of its servers."""
    timeout_s: float = 0.3
    """For a whole call, connecting included."""
    max_connections: int = 8
    """Calls at a time. Others wait, within their time limit."""
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    logs_failures: bool = True
    """False where the caller tells a person."""


class StoreConnection:
    """Makes calls, within their time, or says why not. Connects when first used.

    Belongs to the event loop that makes the first call.

    Raises:
        InvalidArgumentError: the URL is none.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        self._url = settings.url
        self._timeout_s = settings.timeout_s
        self._breaker = Breaker(settings.breaker)
        self._complaints = Complaints() if settings.logs_failures else None
        self._num_places = settings.max_connections
        self._places = asyncio.Semaphore(self._num_places)
        self._options: dict[str, Any] = {
            # One more than calls, for a cluster's map.
            "max_connections": settings.max_connections + 1,
            "socket_connect_timeout": settings.timeout_s,  # also to close one
            # `run` and the pipeline limit the time. To limit it too, redis-py sends by
            # `asyncio.wait_for`, which before Python 3.12 may swallow the end of ours.
            "socket_timeout": None,
            "socket_read_size": 2**20,
            "protocol": _PROTOCOL,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        if problem := describe_url_problem(settings.url):
            raise InvalidArgumentError({"redis_url": problem})
        try:
            pool = BlockingConnectionPool.from_url(
                settings.url,
                timeout=settings.timeout_s,
                retry=Retry(NoBackoff(), 1, (exceptions.ConnectionError,)),
                **self._options,
            )
        except ValueError as error:
            # Not its message, which may quote the password.
            raise InvalidArgumentError({"redis_url": "has a query that is none"}) from error
        self._server = Redis.from_pool(pool)  # that the URL names
        self._client: Redis | None = None  # of that server, or of its cluster; None: not known yet
        self._choosing = asyncio.Lock()
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
            async with asyncio.timeout(self._timeout_s), self._places:
                result = await call(self._client or await self._choose())
        except exceptions.ResponseError as error:
            # It is there, and refuses: out of memory, read-only, no permission.
            self._breaker.succeeded()
            raise self._unavailable(error) from error
        except (OSError, exceptions.RedisError) as error:  # a TimeoutError is an OSError
            self._breaker.failed()
            raise self._unavailable(error) from error
        except BaseException:
            self._breaker.given_up()
            raise
        self._breaker.succeeded()
        return result

    async def _choose(self) -> Redis:
        """The client for the server that the URL names, or for its cluster."""
        async with self._choosing:
            if self._client is None:
                self._client = (
                    await self._join_cluster()
                    if await _is_clustered(self._server)
                    else self._server
                )
        return self._client

    async def _join_cluster(self) -> Redis:
        cluster = RedisCluster.from_url(
            self._url,
            retry=Retry(NoBackoff(), _CLUSTER_RETRIES),
            reinitialize_steps=0,  # a slot that moved is looked up alone
            **self._options,
        )
        await cluster.initialize()
        # It has the same commands, for all that is asked here.
        return cast("Redis", cluster)

    async def pipelined(self, command: Sequence[Argument]) -> Any:
        """The answer to a command on the connection that all such calls share: the cheap way.

        None where it is not open, or the connection ended: `run` has another one, and says what is
        wrong. A refusal is a `hiredis.ReplyError`.

        Raises:
            StoreUnavailableError: the server is late.
        """
        if self._breaker.state is not BreakerState.CLOSED or self._client is not self._server:
            return None
        answer = self._pipeline.send(_pack(tuple(command)))
        if answer is None:
            self._pipeline.connect()
            return None
        try:
            reply = await answer
        except TimeoutError as error:
            self._breaker.failed()
            raise self._unavailable(error) from error
        except ConnectionError:
            return None
        self._breaker.succeeded()
        return reply

    async def close(self) -> None:
        """Closes all connections, after the calls that are under way."""
        await self._pipeline.close()
        # One that is being made now would stay open.
        for _ in range(self._num_places):
            await self._places.acquire()
        if self._client is not None and self._client is not self._server:
            await self._client.aclose()
        await self._server.aclose(close_connection_pool=True)

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        why = describe(error)
        if self._complaints is not None:
            self._complaints.hear(why)
        return StoreUnavailableError(
            f"the store failed: {why}", metadata={"cause": type(error).__name__}
        )


class Complaints:
    """Says in the log what is wrong with a store: once a minute, as long as it is the same."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: dict[str, float] = {}  # until when

    def hear(self, why: str) -> None:
        now = self._clock()
        if self._said.get(why, now) <= now:
            self._said[why] = now + _SAID_AGAIN_S
            _log.warning("store_failed", why=why)


async def _is_clustered(server: Redis) -> bool:
    """Whether it is one of a cluster. Users that may not ask use single servers."""
    try:
        facts = await server.info("cluster")
    except exceptions.NoPermissionError:
        return False
    return bool(facts.get("cluster_enabled"))


# Its declaration takes tuples of one argument only.
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)
