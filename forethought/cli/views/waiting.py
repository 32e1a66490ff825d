"""A sign of life while nothing arrives: what is waited for, and for how long.

On a terminal it is one line that disappears with the next event. Elsewhere each thing that is
waited for gets a line in the log, and another one every ten seconds.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

REPEAT_S = 10.0
"""Between two lines in a log."""


class WaitingView:
    """Shows what a call waits for. For a running event loop.

    Args:
        console: of standard error.
        before: called before something is shown, so that a line that was begun is ended.
        is_quiet: whether nothing is to be shown at all.
    """

    def __init__(
        self, console: Console, before: Callable[[], None], *, is_quiet: bool = False
    ) -> None:
        self._console = console
        self._before = before
        self._is_quiet = is_quiet
        self._timer: asyncio.TimerHandle | None = None
        self._line: Progress | None = None
        self._what = self._detail = ""
        self._began_at = 0.0

    def begin(self, what: str, patience_s: float) -> None:
        """From now on `what` is waited for; shown if it is not there after `patience_s`."""
        self.end()
        if not self._is_quiet:
            self._what, self._detail, self._began_at = what, "", monotonic()
            self._timer = asyncio.get_running_loop().call_later(patience_s, self._show)

    def tell(self, what: str, detail: str = "", *, at_once: bool = True) -> None:
        """Why it takes long, and how far it is; shown now, or with `at_once` false when patience
        ends or it is said again."""
        if self._is_quiet:
            return
        if not at_once and self._timer is not None:
            self._what, self._detail = what, detail
            return
        if what != self._what:
            began_at = self._began_at if self._what else monotonic()
            self.end()
            self._what, self._began_at = what, began_at
        self._detail = detail
        if self._line is not None:
            self._line.update(self._line.task_ids[0], description=self._text)
        elif self._timer is None:
            self._show()

    def end(self) -> None:
        """What was waited for is here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._line is not None:
            self._line.stop()
            self._line = None
        self._what = self._detail = ""

    @property
    def _text(self) -> str:
        return f"{self._what}{self._detail and ': '}{self._detail}"

    def _show(self) -> None:
        self._before()
        if not self._console.is_terminal:
            seconds = monotonic() - self._began_at
            text = f"{self._text} ({seconds:.0f} s)" if seconds >= 1 else self._text
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._timer = asyncio.get_running_loop().call_later(REPEAT_S, self._show)
            return
        self._timer = None
        self._line = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="dim", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._line.add_task(self._text)
        self._line.start()
