"""When a connection works again, and how long its calls wait."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from forethought.errors import StoreUnavailableError
from forethought.store.server.breaker import BreakerState
from forethought.store.server.connection import StoreConnection
from tests.waiting import until

IMPATIENT_S = 0.5


@contextmanager
def impatient(*connections: StoreConnection) -> Iterator[None]:
    """Calls within are given up soon, as a server that hangs deserves; those before and after it
    have the time that a busy machine may need."""
    patience = [connection._timeout_s for connection in connections]
    _wait(connections, [IMPATIENT_S] * len(connections))
    yield
    _wait(connections, patience)


def _wait(connections: Sequence[StoreConnection], limits: Sequence[float]) -> None:
    for connection, limit_s in zip(connections, limits, strict=True):
        connection._timeout_s = connection._pipeline._timeout_s = limit_s
        line = connection._pipeline._line
        if line is not None:
            line._timeout_s = limit_s
            if line._watchdog is not None:  # of an earlier call
                line._watchdog.cancel()
                line._watchdog = None


async def until_back(connection: StoreConnection) -> None:
    """Returns when calls go through again."""

    async def answers() -> bool:
        try:
            return bool(await connection.run(lambda client: client.ping()))
        except StoreUnavailableError:
            return False

    await until(answers)
    assert connection.state is BreakerState.CLOSED


async def until_open(connection: StoreConnection) -> None:
    """Returns when the way that calls share is open."""

    await connection.run(lambda client: client.ping())

    async def is_open() -> bool:
        return await connection.pipelined(("PING",)) == b"PONG"

    await until(is_open)
