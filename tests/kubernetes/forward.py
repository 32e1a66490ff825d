"""`kubectl port-forward`, which ends with the pod that it leads to, kept up."""

import re
import subprocess
import threading
from collections.abc import Callable, Sequence
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

_READY = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ->")
_PATIENCE_S = 30.0


class ForwardError(Exception):
    """No port is forwarded; the message is what kubectl said."""


class Forward:
    """A forwarded port. `address` starts kubectl again if it has ended.

    Args:
        command: of kubectl; it chooses a free port.
        start: starts it, as `subprocess.Popen` does.
    """

    def __init__(self, command: Sequence[str], start: Callable[..., Any]) -> None:
        self._command = command
        self._start = start
        self._process: Any = None
        self._address = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """Where the port is now.

        Raises:
            ForwardError: kubectl ends, or says nothing, instead of forwarding.
        """
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._address = self._open()
        return self._address

    def close(self) -> None:
        """Ends kubectl."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            self._process = None

    def _open(self) -> str:
        self._process = self._start(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        lines: Queue[str] = Queue()
        # Reads to the end, so that kubectl never waits for a reader.
        threading.Thread(target=_read, args=(self._process.stdout, lines), daemon=True).start()
        said = []
        try:
            while line := lines.get(timeout=_PATIENCE_S):
                said.append(line)
                if found := _READY.match(line):
                    return f"127.0.0.1:{found[1]}"
        except Empty:
            said.append(f"nothing for {_PATIENCE_S:.0f} s")
        raise ForwardError("".join(said).strip() or "kubectl port-forward ended without a word")


def _read(output: Any, lines: "Queue[str]") -> None:
    try:
        for line in output:
            lines.put(line)
    except ValueError:
        pass  # closed
    lines.put("")
