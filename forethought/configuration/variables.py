"""Environment variables: ours, misspelt ones, and those that Kubernetes adds.

Kubernetes tells every container of a namespace where its Services are, in the notation of Docker's
links: of a Service `forethought-target` with a port named grpc

    FORETHOUGHT_TARGET_SERVICE_HOST=10.0.0.7      FORETHOUGHT_TARGET_SERVICE_PORT=50052
    FORETHOUGHT_TARGET_SERVICE_PORT_GRPC=50052    FORETHOUGHT_TARGET_PORT=tcp://10.0.0.7:50052
    FORETHOUGHT_TARGET_PORT_50052_TCP=tcp://10.0.0.7:50052
    FORETHOUGHT_TARGET_PORT_50052_TCP_PROTO=tcp, ..._TCP_PORT=50052 and ..._TCP_ADDR=10.0.0.7

They begin as our settings do. Name and value together tell them apart.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from forethought.configuration.suggestions import suggest

CONFIG_VARIABLE = "FORETHOUGHT_CONFIG"
"""Names the TOML file."""
_PREFIX = "FORETHOUGHT_"


def env_prefix(section: str) -> str:
    """How the environment variables of a process begin."""
    return f"{_PREFIX}{section.upper()}_"


_PROTOCOL = "(?:TCP|UDP|SCTP)"
_PORT_OF_SERVICE = rf"_PORT_[0-9]+_{_PROTOCOL}"


def _is_ip(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return False
    return True


def _is_port(value: str) -> bool:
    return bool(re.fullmatch("[0-9]{1,5}", value)) and int(value) <= 65535


def _is_url(value: str) -> bool:
    match = re.fullmatch(r"(?:tcp|udp|sctp)://(.+):([0-9]{1,5})", value)
    return match is not None and _is_ip(match[1]) and _is_port(match[2])


_LINKS = (
    (re.compile(r".+_SERVICE_HOST"), _is_ip),
    (re.compile(r".+_SERVICE_PORT(?:_.+)?"), _is_port),
    (re.compile(rf".+{_PORT_OF_SERVICE}_PROTO"), lambda value: value in {"tcp", "udp", "sctp"}),
    (re.compile(rf".+{_PORT_OF_SERVICE}_PORT"), _is_port),
    (re.compile(rf".+{_PORT_OF_SERVICE}_ADDR"), _is_ip),
    (re.compile(rf".+(?:_PORT|{_PORT_OF_SERVICE})"), _is_url),
)


def is_service_link(name: str, value: str) -> bool:
    """Whether a variable is one that Kubernetes adds for a Service."""
    return any(pattern.fullmatch(name) and fits(value) for pattern, fits in _LINKS)


def without_service_links(environment: Mapping[str, str | None]) -> dict[str, str | None]:
    """The other variables: a Service may be named so that its links read like settings."""
    return {
        name: value
        for name, value in environment.items()
        if not is_service_link(name.upper(), value or "")
    }


def complain_of_variables(
    environment: Mapping[str, str], prefix: str, settings: Iterable[str], other: Iterable[str]
) -> list[str]:
    """What is wrong with the names of variables.

    Args:
        environment: all variables.
        prefix: how those of this process begin.
        settings: the names of its settings.
        other: how those of other processes begin; what these are named is not known here.
    """
    known = {f"{prefix}{name}".upper() for name in settings}
    others = tuple(other)
    complaints = []
    for given, value in environment.items():
        name = given.upper()
        if not name.startswith(_PREFIX) or name in {*known, CONFIG_VARIABLE}:
            continue
        if is_service_link(name, value) or name.startswith(others):
            continue
        is_ours = name.startswith(prefix)
        # Variables of somebody else's may begin with our name, too.
        if is_ours or get_close_matches(name, [*known, CONFIG_VARIABLE], cutoff=0.9):
            meant = suggest(name, [*known, CONFIG_VARIABLE])
            complaints.append(f"there is no setting with the environment variable {given}{meant}")
    return complaints
