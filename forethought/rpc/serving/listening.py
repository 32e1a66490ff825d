"""Why a server cannot listen at an address, which gRPC itself does not say."""

import errno
import socket
from dataclasses import dataclass
from pathlib import Path

from forethought.addresses import UNIX, split_address
from forethought.errors import ListenError

_REASONS = {
    errno.EADDRINUSE: "the port is taken: choose another, or stop what listens there",
    errno.EACCES: "this user may not listen on that port",
    errno.EADDRNOTAVAIL: "that is no address of this machine",
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What is in a listener's way."""

    words: str
    is_about_host: bool  # no other port would do


def why_not_to_listen(host: str, port: int) -> Obstacle | None:
    """What a server would fail for that listened there; binds the address and lets it go again."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        return Obstacle(f"the host {host} is not known", is_about_host=True)
    family, kind, protocol, _, where = found[0]
    try:
        with socket.socket(family, kind, protocol) as probe:
            # Connections in TIME_WAIT do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        words = _REASONS.get(error.errno or 0) or error.strerror or str(error)
        is_about_port = error.errno in {errno.EADDRINUSE, errno.EACCES}
        return Obstacle(words, is_about_host=not is_about_port)
    return None


def check_listening(address: str, flag: str = "--listen") -> None:
    """Refuses an address that a server cannot listen at.

    Args:
        address: that was checked for its form.
        flag: that it was given with, for the error.

    Raises:
        ListenError: it cannot be bound.
    """
    if address.startswith(UNIX):
        folder = Path(address.removeprefix(UNIX)).parent
        if not folder.is_dir():
            raise ListenError(f"{flag} {address}: there is no folder {folder}")
        return
    if why := why_not_to_listen(*split_address(address)):
        raise ListenError(f"{flag} {address}: {why.words}")
