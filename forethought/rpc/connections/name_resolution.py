"""Where replicas are: a list of addresses, some of them names that stand for several machines.

A name's records come and go with its replicas, as those of a headless service in Kubernetes do, so
names are resolved again and again. Numbers, and targets in gRPC's own notation, stand for
themselves.

A name server may be away, hang, or have no record of a name, now or ever. What it does not say
changes nothing: where it is away, replicas stay as they are known. Where it says that a name has no
records, its replicas are gone, except those that still serve: they know better.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from forethought.addresses import split_address

_log = structlog.get_logger(__name__)

TIME_LIMIT_S = 2.0
"""For an answer of the name server. What it says later counts at the next look."""

_NO_RECORDS = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}

Records = Sequence[tuple[Any, ...]]
"""As `getaddrinfo` returns them."""


class NameResolver:
    """Follows what addresses stand for. Belongs to one event loop.

    Args:
        addresses: each `host:port`, or in gRPC's own notation.
        time_limit_s: for the answer of the name server.
    """

    def __init__(self, addresses: Sequence[str], time_limit_s: float = TIME_LIMIT_S) -> None:
        self._addresses = addresses
        self._time_limit_s = time_limit_s
        self._asked: dict[str, asyncio.Future[Records]] = {}  # by address, and not answered yet
        self._found: dict[str, frozenset[str]] = {}  # by address: what came out last
        self._complaints: dict[str, str] = {}  # by address: what the log says of it

    @property
    def has_names(self) -> bool:
        """Whether another look may find something else."""
        return any(map(is_name, self._addresses))

    async def look(
        self, still_serves: Callable[[str], bool] = lambda _: False
    ) -> Mapping[str, str]:
        """All replicas that there are, each with the address that stands for it.

        Args:
            still_serves: whether a replica of a name that has no records any more still serves.
        """
        found = await asyncio.gather(*(self._look(each, still_serves) for each in self._addresses))
        replicas: dict[str, str] = {}
        for address, own in zip(self._addresses, found, strict=True):
            for replica in sorted(own):
                replicas.setdefault(replica, address)
        return replicas

    async def _look(self, address: str, still_serves: Callable[[str], bool]) -> frozenset[str]:
        if not is_name(address):
            return frozenset((address,))
        known = self._found.get(address, frozenset())
        host, _, port = address.rpartition(":")
        try:
            found = _replicas(await self._ask(address, host, int(port)), port)
        except TimeoutError:
            found = known
            self._complain(address, f"no answer within {self._time_limit_s:g} s")
        except OSError as error:
            has_none = isinstance(error, socket.gaierror) and error.errno in _NO_RECORDS
            found = frozenset(filter(still_serves, known)) if has_none else known
            self._complain(address, error.strerror or str(error))
        except UnicodeError:  # a host that can be no name
            found = known
            self._complain(address, "this can be no name")
        else:
            self._complain(address, "")
        self._found[address] = found
        return found

    async def _ask(self, address: str, host: str, port: int) -> Records:
        """The answer of the name server, of which no second question is asked meanwhile: each takes
        a thread."""
        asked = self._asked.get(address)
        if asked is None:
            looking = asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            asked = self._asked[address] = asyncio.ensure_future(looking)
        done, _ = await asyncio.wait((asked,), timeout=self._time_limit_s)
        if not done:
            raise TimeoutError
        del self._asked[address]
        return asked.result()

    def close(self) -> None:
        """Waits for no answer any more."""
        for asked in self._asked.values():
            asked.cancel()

    def _complain(self, address: str, why: str) -> None:
        """Says in the log what is wrong, where that is news."""
        before = self._complaints.get(address, "")
        self._complaints[address] = why
        if why and why != before:
            _log.warning(
                "name_not_resolved",
                address=address,
                why=why,
                next="looked up again; a Service without pods has no address either",
            )
        elif before and not why:
            _log.info("name_resolved", address=address)


def server_name(replica: str, address: str) -> str:
    """The name that the certificate of a replica must bear, if not its own address's host."""
    return "" if replica == address else split_address(address)[0]


def is_name(address: str) -> bool:
    """Whether records of a name server stand behind an address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or ":" in host or "/" in host:
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False


def _replicas(records: Records, port: str) -> frozenset[str]:
    """The machines behind a name. One that has addresses of both kinds would count twice, so those
    of the kind that more machines have stand for all."""
    numbers = {(family, str(where[0])) for family, _, _, _, where in records}
    v4 = frozenset(f"{host}:{port}" for family, host in numbers if family == socket.AF_INET)
    v6 = frozenset(f"[{host}]:{port}" for family, host in numbers if family == socket.AF_INET6)
    return v6 if len(v6) > len(v4) else v4
