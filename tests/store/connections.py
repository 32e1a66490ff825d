"""When a connection works again."""

from forethought.errors import StoreUnavailableError
from forethought.store.server.breaker import BreakerState
from forethought.store.server.connection import StoreConnection
from tests.waiting import until


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
