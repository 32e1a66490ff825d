"""Why a server cannot listen at an address, which gRPC itself does not say."""

import errno
import socket

from forethought.addresses import UNIX, split_address
from forethought.errors import ListenError

_REASONS = {
    errno.EADDRINUSE: "the port is taken: choose another, or stop what listens there",
    errno.EACCES: "this user may not listen on that port",
    errno.EADDRNOTAVAIL: "that is no address of this machine",
}


def check_listening(address: str, flag: str = "--listen") -> None:
    """Binds an address and lets it go again.

    Args:
        address: that was checked for its form.
        flag: that it was given with, for the error.

    Raises:
        ListenError: it cannot be bound.
    """
    if address.startswith(UNIX):
        return
    host, port = split_address(address)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ListenError(f"{flag} {address}: the host {host} is not known") from error
    family, kind, protocol, _, where = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # Connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            why = _REASONS.get(error.errno or 0, error.strerror)
            raise ListenError(f"{flag} {address}: {why}") from error
