"""Where replicas are: a list of addresses, some of them names that stand for several machines.

A name's records come and go with its replicas, as those of a headless service in Kubernetes do, so
names are resolved again and again. Numbers, and targets in gRPC's own notation, stand for
themselves.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence

import structlog

from forethought.addresses import split_address

_log = structlog.get_logger(__name__)


async def resolve_all(addresses: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
    """All replicas that the addresses stand for, each with the address that stands for it.

    Args:
        known: what came out last. It stays while a name cannot be resolved: a name server that
            is away says nothing about the replicas.
    """
    found: dict[str, str] = {}
    for address in addresses:
        try:
            found |= dict.fromkeys(await _resolve(address), address)
        except OSError as error:
            _log.warning(
                "name_not_resolved",
                address=address,
                why=error.strerror or str(error),
                next="looked up again; a Service without pods has no address either",
            )
            # Until it has been resolved once, gRPC may try to.
            found |= known or {address: address}
    return found


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


async def _resolve(address: str) -> set[str]:
    if not is_name(address):
        return {address}
    host, _, port = address.rpartition(":")
    loop = asyncio.get_running_loop()
    records = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    hosts = {(family, str(where[0])) for family, _, _, _, where in records}
    # A machine with addresses of both kinds would count twice.
    v4 = {f"{number}:{port}" for family, number in hosts if family == socket.AF_INET}
    return v4 or {f"[{number}]:{port}" for _, number in hosts}
