"""Addresses as people write them: checked before a library gets to see them.

gRPC takes nearly any text for a target, asks port 443 where there is none, and keeps the last 16
bits of a port that is too large.
"""

import ipaddress
from collections.abc import Sequence

from forethought.errors import InvalidArgumentError

MAX_PORT = 65535
DEFAULT_PORT = 50050  # the orchestrator's

UNIX = "unix:"
_GRPC_SCHEMES = ("ipv4:", "ipv6:", UNIX, "unix-abstract:", "vsock:", "xds:")


def check_address(
    text: str, field: str = "address", *, min_port: int = 1, default_port: int = DEFAULT_PORT
) -> str:
    """An address to connect to or to listen on, without the spaces around it.

    Args:
        text: `host:port`, `[IPv6]:port`, or a target in gRPC's own notation (`dns:///name:port`,
            `unix:/path`), which is left to gRPC.
        field: what the caller calls it, for the error.
        min_port: 0 where a free port may be asked for.
        default_port: what to write where there is none.

    Raises:
        InvalidArgumentError: says what is wrong with it, and what to write instead.
    """
    address = text.strip()
    if problem := describe_problem(address, min_port=min_port, default_port=default_port):
        raise InvalidArgumentError({field: f"{text!r} {problem}"})
    return address


def describe_problem(address: str, *, min_port: int = 1, default_port: int = DEFAULT_PORT) -> str:
    """What is wrong with an address; empty where nothing is. Arguments as of `check_address`."""
    if address.startswith(_GRPC_SCHEMES):
        return ""
    if address.startswith("dns:"):  # dns://server/name:port, where gRPC asks port 443 without one
        address = address.removeprefix("dns:").rpartition("/")[2]
    return _problem(address, min_port, default_port)


def is_for_grpc(address: str) -> bool:
    """Whether it has a scheme that gRPC alone knows, such as `unix:/path`."""
    return address.startswith((*_GRPC_SCHEMES, "dns:"))


def split_address(address: str) -> tuple[str, int]:
    """Host, without brackets, and port of a checked `host:port`."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches what listens at a checked address."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host, _ = split_address(address)
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host == "localhost"


def join_address(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_addresses(texts: str | Sequence[str], field: str = "address") -> list[str]:
    """One or more addresses, each checked; a text may hold several, separated by commas.

    Raises:
        InvalidArgumentError: one of them is wrong, or there is none.
    """
    parts = [part for text in _as_texts(texts) for part in _parts(text)]
    if not parts:
        raise InvalidArgumentError({field: "is empty; it wants HOST:PORT"})
    return [check_address(part, field) for part in parts]


def _as_texts(texts: str | Sequence[str]) -> Sequence[str]:
    return (texts,) if isinstance(texts, str) else texts


def _parts(text: str) -> list[str]:
    # gRPC's own lists (`ipv4:a:1,b:2`) stay whole.
    whole = text.strip()
    if whole.startswith(("ipv4:", "ipv6:")):
        return [whole]
    return [part.strip() for part in whole.split(",") if part.strip()]


def _problem(address: str, min_port: int, default_port: int) -> str:
    scheme, separator, rest = address.partition("://")
    host, colon, port = address.rpartition(":")
    whole = f"[{address}]" if _is_ipv6(address) else address or "HOST"
    some_host = "127.0.0.1" if min_port else "0.0.0.0"  # noqa: S104 - an example
    is_bracketed = host.startswith("[") and host.endswith("]")
    is_number = port.isascii() and port.isdecimal()
    checks = (
        (
            address.isdecimal(),
            f"has no host: it wants HOST:PORT, as in {some_host}:{address}",
        ),
        (
            separator,
            f"has a scheme: leave out {scheme}://, as in {rest.rstrip('/') or 'HOST:PORT'}",
        ),
        (
            "/" in address or any(map(str.isspace, address)),
            "is no address: it wants HOST:PORT and nothing besides",
        ),
        (
            not colon or address.endswith("]") or _is_ipv6(address),
            f"has no port: it wants HOST:PORT, as in {whole}:{default_port}",
        ),
        (
            not host,
            "has no host: it wants HOST:PORT"
            + (f"; 0.0.0.0:{port} listens everywhere" if min_port == 0 else ""),
        ),
        (
            not is_bracketed and any(character in host for character in ":[]"),
            f"is no address: IPv6 stands in brackets, as in [::1]:{port}",
        ),
        (
            is_bracketed and not _is_ipv6(host[1:-1]),
            "is no address: there is no IPv6 address between its brackets",
        ),
        (
            not is_bracketed and not _is_host_name(host),
            "has no host: each part of a name, between dots, has 1 to 63 characters",
        ),
        (not is_number, f"has no port: {port!r} is no number"),
        (
            is_number and not min_port <= int(port[:9]) <= MAX_PORT,
            f"has a port out of range: it goes from {min_port} to {MAX_PORT}",
        ),
    )
    return next((text for is_wrong, text in checks if is_wrong), "")


def _is_host_name(host: str) -> bool:
    try:
        host.encode("idna")  # as a look-up does
    except UnicodeError:
        return False
    return True


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text.partition("%")[0]).version == 6
    except ValueError:
        return False
