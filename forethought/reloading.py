"""Files that are read again when they change.

Files that cannot be used leave what there was before in force, and the log says why.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

import structlog

from forethought.errors import ForethoughtError

_log = structlog.get_logger(__name__)

LOOK_S = 1.0
"""Between two looks at files, unless told otherwise."""

T = TypeVar("T")


class Reloading(Generic[T]):
    """What is made of files, and made again when they have changed.

    Args:
        paths: of the files.
        make: reads them; may raise a ForethoughtError.
        look_s: time within which the files are not looked at again; None: a second.

    Raises:
        ForethoughtError: they cannot be used.
    """

    def __init__(
        self, paths: Iterable[Path | None], make: Callable[[], T], look_s: float | None = None
    ) -> None:
        self._paths = [path for path in paths if path is not None]
        self._make = make
        self._look_s = LOOK_S if look_s is None else look_s
        self._lock = Lock()
        self._looked_at = monotonic()
        self._seen = self._stamps()
        self._made = make()

    def get(self) -> T:
        """The same object for as long as the files are the same. From any thread."""
        with self._lock:
            if monotonic() - self._looked_at >= self._look_s:
                self._look()
            return self._made

    def _look(self) -> None:
        self._looked_at = monotonic()
        stamps = self._stamps()
        if stamps == self._seen:
            return
        self._seen = stamps
        try:
            self._made = self._make()
        except ForethoughtError as error:
            _log.warning("files_not_usable", why=error.message)
        else:
            _log.info("files_reloaded", files=[str(path) for path in self._paths])

    def _stamps(self) -> list[tuple[int, ...]]:
        return [_stamp(path) for path in self._paths]


def _stamp(path: Path) -> tuple[int, ...]:
    """Changes when the file does, or a link on the way to it."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_ino, found.st_dev, found.st_size)
