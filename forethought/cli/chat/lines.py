"""Lines of the user: edited on a terminal, with a history that is kept; or read from a pipe."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from forethought.errors import InvalidArgumentError
from forethought.rpc.connections.channels import MAX_MESSAGE_BYTES

PROMPT = "> "
_CONTINUED = "… "
_HISTORY_LEN = 1000


class LineReader:
    """Reads what is typed or piped. A line that ends with a backslash goes on in the next one."""

    def __init__(self) -> None:
        self.is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._history = history_file() if self.is_interactive else None
        self._load_history()

    def read(self) -> str:
        """The next input, without the end of its last line.

        Raises:
            EOFError: there is no more.
            InvalidArgumentError: it is longer than any message may be.
            KeyboardInterrupt: the user wants to begin the line anew.
        """
        lines = [self._line(PROMPT)]
        room = MAX_MESSAGE_BYTES - len(lines[0])
        while lines[-1].endswith("\\"):
            lines[-1] = lines[-1][:-1]
            try:
                lines.append(self._line(_CONTINUED))
            except EOFError:
                break
            room -= len(lines[-1]) + 1
            if room < 0:
                raise _too_long()
        return "\n".join(lines)

    def close(self) -> None:
        """Keeps the history, where there is a place for it."""
        if self._history is None:
            return
        with suppress(OSError, ImportError):
            import readline  # noqa: PLC0415 - not on every platform

            self._history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._history.touch(mode=0o600)
            readline.set_history_length(_HISTORY_LEN)
            readline.write_history_file(self._history)

    def _line(self, prompt: str) -> str:
        if self.is_interactive:
            return input(prompt)
        line = sys.stdin.buffer.readline(MAX_MESSAGE_BYTES + 1)
        if not line:
            raise EOFError
        if len(line) > MAX_MESSAGE_BYTES:
            raise _too_long()
        return line.decode(errors="replace").rstrip("\r\n")

    def _load_history(self) -> None:
        if self._history is not None:
            with suppress(OSError, ImportError):
                import readline  # noqa: PLC0415 - not on every platform

                readline.read_history_file(self._history)


def _too_long() -> InvalidArgumentError:
    return InvalidArgumentError(
        {"standard input": f"holds a line of more than {MAX_MESSAGE_BYTES:,} bytes"}
    )


def history_file() -> Path | None:
    """Where the lines of this user are kept; None where there is no home."""
    base = os.environ.get("XDG_STATE_HOME")  # a convention of the system, and no setting of ours
    try:
        folder = Path(base) if base else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return folder / "forethought" / "chat_history"
