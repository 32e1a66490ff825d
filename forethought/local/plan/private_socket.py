"""A Unix socket that no other user of this machine can reach.

It lies in a folder of mode 0700 inside the deployment's. A path of a socket has at most 107 bytes,
and some file systems hold none: then the folder is a temporary one.
"""

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from forethought.local.plan.plan_error import PlanError

_PRIVATE = 0o700


@contextlib.contextmanager
def private_socket(folder: Path, name: str) -> Iterator[Path]:
    """The path for a socket that a process may listen on as long as the context lasts.

    Args:
        folder: of the deployment.
        name: of the process.

    Raises:
        PlanError: there is no place for it.
    """
    with contextlib.ExitStack() as held:
        for make in (_inside, _temporary):
            try:
                path = make(folder.resolve() / name, held).absolute() / f"{name}.sock"
                held.callback(path.unlink, missing_ok=True)
                _try_to_bind(path)
                break
            except OSError as error:
                why = f"{error.filename or path}: {error.strerror or error}"
        else:
            raise PlanError(f"no place for the socket of {name}: {why}")
        yield path


def _inside(path: Path, held: contextlib.ExitStack) -> Path:
    path.mkdir(_PRIVATE, exist_ok=True)
    path.chmod(_PRIVATE)  # may be left from before; fails where it is somebody else's
    held.callback(_remove, path)
    return path


def _temporary(path: Path, held: contextlib.ExitStack) -> Path:
    made = Path(tempfile.mkdtemp(prefix=f"forethought-{path.name}-"))
    held.callback(_remove, made)
    return made


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def _try_to_bind(path: Path) -> None:
    """Raises OSError where the path is too long, or the file system has no sockets."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(os.fspath(path))
        except OSError as error:  # Python says only "AF_UNIX path too long"
            raise OSError(error.errno or 0, error.strerror or str(error), str(path)) from error
    path.unlink()
