"""What went wrong between two ends that tried to connect, from what gRPC says of it."""

import re
from urllib.parse import unquote

_SIGNS = (
    (
        "certificate has expired",
        "its certificate has expired",
    ),
    (
        "certificate is not yet valid",
        "its certificate is not valid yet, or this machine's clock is slow",
    ),
    (
        "Hostname Verification Check failed",
        "its certificate is of another name than the address",
    ),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "its certificate is not signed by the CA that was named (--tls-ca)",
    ),
    (
        "WRONG_VERSION_NUMBER",
        "it speaks plain text, and TLS was tried",
    ),
    (
        "UNSUPPORTED_PROTOCOL",
        "it speaks only versions of TLS before 1.2",
    ),
    (
        "CERTIFICATE_REQUIRED",
        "it asks for a certificate of the caller (--tls-cert)",
    ),
    (
        "Tls handshake failed",
        "no TLS connection comes about",
    ),
)
_ENDED = (
    "it ends the connection at once, as a port for TLS does with plain text (--tls-ca), or with a "
    "caller whose certificate it does not accept (--tls-cert)"
)
_CLOSED = "Socket closed"
"""How such a port ends a connection: in order, once it has read what came. One that is reset is of
a process that ended meanwhile."""


def describe_handshake(details: str) -> str:
    """Why no connection came about, in words; empty where TLS has nothing to do with it.

    Args:
        details: of the status that gRPC made up for a call.
    """
    if not details.startswith("failed to connect to all addresses"):
        return ""
    why = next((words for sign, words in _SIGNS if sign in details), "")
    if not why and _CLOSED in details:
        why = _ENDED
    address = re.search(r"ip(?:v4|v6):(\S+): ", details)
    return f"no connection to {unquote(address[1])}: {why}" if why and address else why
