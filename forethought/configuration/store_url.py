"""URLs of a store: what is wrong with one, and that of a socket."""

from os import fsencode
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_MAX_SOCKET_BYTES = 107
"""Of a socket's path: `sockaddr_un` of Linux, without the zero at its end."""
_FORMS = (
    "expected redis://HOST:PORT, rediss://HOST:PORT or unix:///PATH, and characters of a password "
    "that mean something in URLs written as %2F for /, %40 for @, %23 for # and so on"
)


def url_of_socket(path: Path) -> str:
    """The URL of a store that listens on a Unix socket."""
    return f"unix://{quote(str(path.absolute()))}"


def socket_of_url(url: str) -> str | None:
    """The path of the Unix socket that a URL names; None for any other URL."""
    parts = urlsplit(url)
    return unquote(parts.path) if parts.scheme == "unix" else None


def describe_url_problem(url: str) -> str:
    """Why a URL can be none of a store; empty where it can. It never quotes the URL, which may
    hold a password."""
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in {"redis", "rediss"} and bool(parts.hostname)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        return _FORMS
    if parts.scheme != "unix":
        return "" if is_server else _FORMS
    if parts.hostname or len(parts.path) < 2:
        return "a socket's path begins at the root: unix:///PATH, with three slashes"
    if len(fsencode(unquote(parts.path))) > _MAX_SOCKET_BYTES:
        return f"the path of a socket has at most {_MAX_SOCKET_BYTES} bytes"
    return ""
