"""What went wrong with the store, in words for whoever runs it.

A message of redis-py may quote what was sent, so none is passed on: only what is looked for here.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from os import strerror

from redis import exceptions

_COMMAND = re.compile(r"'([a-z.|_-]{1,40})'", re.IGNORECASE)

_REFUSALS = {  # what a server's answer holds
    "WRONGPASS": "wrong user or password (WRONGPASS)",
    "invalid username-password": "wrong user or password",
    "without any password": "a password was given, and the server has none for this user",
    "NOAUTH": "the server asks for a password, and none was given (NOAUTH)",
    "Authentication required": "the server asks for a password, and none was given (NOAUTH)",
    "READONLY": "the server is a replica that takes no writes: name its primary (READONLY)",
    "read only replica": "the server is a replica that takes no writes: name its primary",
    "OOM": "the server's memory is full, and it evicts nothing (maxmemory, OOM)",
    "maxmemory": "the server's memory is full, and it evicts nothing (maxmemory, OOM)",
    "DB index is out of range": "it has no database of the number that the URL ends with",
    "SELECT is not allowed": "a cluster has database 0 alone: leave the number out of the URL",
    "invalid DB index": "it has no database of the number that the URL ends with",
    "MISCONF": "the server cannot save its data, and takes no writes meanwhile (MISCONF)",
    "NOREPLICAS": "the server has too few replicas to take writes (NOREPLICAS)",
    "MASTERDOWN": "the server has lost its primary (MASTERDOWN)",
    "CLUSTERDOWN": "the cluster is down: some of its slots have no server (CLUSTERDOWN)",
    "MOVED": "the server is one of a cluster, and INFO is not permitted, which tells so (MOVED)",
    "LOADING": "the server is loading its data (LOADING)",
    "max number of clients": "the server has as many clients as it takes",
    "protected mode": "the server is in protected mode (DENIED)",
}

_PASSING = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of")

_OTHER_HOST = (62, 64)  # OpenSSL's codes: another host name, another address


def describe(error: BaseException) -> str:
    """What is wrong, without anything secret."""
    looks = (_below, _denial, _unknown_command, _refusal, _silence)
    found = filter(None, (look(error) for look in looks))
    return next(found, f"it refuses: {type(error).__name__}")


def is_lasting(error: BaseException) -> bool:
    """Whether asking again is of no use, until somebody changes something."""
    if any(isinstance(each, ssl.SSLError) for each in _chain(error)):
        return True
    if isinstance(error, exceptions.AuthenticationError):
        return True
    is_refusal = isinstance(error, exceptions.ResponseError)
    return is_refusal and not any(marker in str(error) for marker in _PASSING)


def _below(error: BaseException) -> str | None:
    """Trouble of what carries the connection, or of the files that it needs."""
    for each in _chain(error):
        if isinstance(each, ssl.SSLError):
            return _tls_trouble(each)
        if isinstance(each, socket.gaierror):
            return "its host name does not resolve"
        if isinstance(each, FileNotFoundError | PermissionError):
            return f"a socket or certificate that the URL names: {each.strerror}"
    return None


def _denial(error: BaseException) -> str | None:
    text = str(error)
    if not any(sign in text for sign in ("NOPERM", "permission", "ACL failure")):
        return None
    found = _COMMAND.search(text)
    if found is not None:
        return f"the user may not run {found[1].upper()} (NOPERM)"
    what = "keys" if "key" in text else "commands"
    return f"the user may not use the {what} that are needed (NOPERM)"


def _unknown_command(error: BaseException) -> str | None:
    text = str(error)
    if "unknown command" not in text:
        return None
    found = _COMMAND.search(text)
    return f"the server does not know {found[1].upper() if found else 'a command'}"


def _refusal(error: BaseException) -> str | None:
    text = str(error)
    return next((words for sign, words in _REFUSALS.items() if sign in text), None)


def _silence(error: BaseException) -> str | None:
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "no answer in time: does it want TLS (rediss://), or know none (redis://)?"
    if isinstance(error, OSError | exceptions.ConnectionError):
        # In the system's words: those of asyncio name the call and its arguments.
        below = (each for each in _chain(error) if isinstance(each, OSError))
        reasons = (strerror(each.errno) for each in below if each.errno)
        return (
            f"no connection: {next(filter(None, reasons), 'it was closed, as where TLS is wanted')}"
        )
    return None


def _tls_trouble(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_HOST:
            return f"its certificate is of another host: {error.verify_message}"
        return (
            f"its certificate is not trusted ({error.verify_message}): name the file of its CA, by "
            "?ssl_ca_certs=FILE at the end of the URL or by SSL_CERT_FILE"
        )
    return f"no TLS connection ({error.reason or 'closed'}): is it a port for TLS?"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
