"""What `forethought up` shows: progress, then what listens where."""

import asyncio
import contextlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from forethought.cli.failure import print_failure
from forethought.cli.up.choices import describe_choices, how_called, short_path
from forethought.cli.views.served import Served
from forethought.configuration.store_url import socket_of_url
from forethought.errors import ForethoughtError
from forethought.local.plan.defaults import DEFAULT_PORT, HOST
from forethought.local.plan.plan import Plan
from forethought.local.processes.last_words import (
    describe_progress,
    find_admin_address,
    read_last_lines,
)
from forethought.local.processes.local_deployment import (
    LocalDeployment,
    RunningTier,
    StartupTimeoutError,
    Tier,
    TierExitedError,
    TierState,
)

_STYLES = {
    TierState.STARTING: "dim",
    TierState.LOADING: "yellow",
    TierState.READY: "green",
    TierState.EXITED: "red",
}
_SIGN_OF_LIFE_S = 10.0
_LOOK_S = 0.5
_MARKS = {TierState.READY: "✓", TierState.EXITED: "✗"}


_WIDE = 64
"""Columns of a terminal that shows process and time of each tier, too."""


class UpView:
    """Live on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._spinner = Spinner("dots", style="yellow")
        self.said_ready = False

    @contextlib.contextmanager
    def progress(self, deployment: LocalDeployment) -> Iterator[None]:
        """Shows how far each tier is, as long as the context lasts."""
        for note in self._plan.notes:
            self._console.print(f"note: {note}", style="yellow", highlight=False)
        if not self._console.is_terminal:
            signs = asyncio.get_running_loop().create_task(self._show_signs_of_life(deployment))
            try:
                yield
            finally:
                signs.cancel()
            return
        with Live(
            get_renderable=lambda: self._progress_table(deployment),
            console=self._console,
            transient=True,
            refresh_per_second=10,
        ):
            yield

    async def _show_signs_of_life(self, deployment: LocalDeployment) -> None:
        """For each tier that is not ready a line when it does something else, and now and then."""
        said = {each.tier.name: ("", monotonic()) for each in deployment.running}
        while True:
            await asyncio.sleep(_LOOK_S)
            for running in deployment.running:
                if running.state not in {TierState.STARTING, TierState.LOADING}:
                    continue
                name, doing = running.tier.name, describe_progress(running.log_path)
                before, said_at = said[name]
                if doing != before or monotonic() - said_at >= _SIGN_OF_LIFE_S:
                    said[name] = doing, monotonic()
                    still = "still " if doing == before else ""
                    state = f"{still}{running.state.value} ({running.seconds:.1f} s)"
                    self._print(f"{name}: {state}{doing and ': '}{doing}")

    def _progress_table(self, deployment: LocalDeployment) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for running in deployment.running:
            state = running.state
            mark: RenderableType = self._spinner
            if state in _MARKS:
                mark = Text(_MARKS[state], _STYLES[state])
            table.add_row(
                mark,
                running.tier.name,
                Text(state.value, _STYLES[state]),
                f"{running.seconds:.1f} s",
                "" if state in _MARKS else Text(describe_progress(running.log_path), "dim"),
            )
        return table

    def show_change(self, running: RunningTier) -> None:
        """A line for a tier whose state changed; on a terminal the live table shows it."""
        if not self._console.is_terminal:
            self._print(f"{running.tier.name}: {running.state.value} ({running.seconds:.1f} s)")

    def show_ready(
        self, deployment: LocalDeployment, command: Sequence[str], served: Served | None = None
    ) -> None:
        """What was chosen, what listens where, and what to do next."""
        self.said_ready = True
        rows = [
            (each.tier.name, _shown(each.tier), str(each.process.pid), f"{each.seconds:.1f} s")
            for each in reversed(deployment.running)
        ]
        if self._plan.redis_url is not None:
            rows.append(("redis", _without_password(self._plan.redis_url), "elsewhere", ""))
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("tier", style="bold", no_wrap=True)
        table.add_column("listens on", style="cyan", overflow="fold")
        is_wide = self._console.width >= _WIDE
        if is_wide:
            table.add_column("process", justify="right")
            table.add_column("ready after", justify="right")
        for row in rows:
            table.add_row(*(row if is_wide else row[:2]))
        self._console.print(table)
        for name, value in describe_choices(self._plan, served):
            self._print(f"{name:<7} {value}")
        url = _gateway_url(deployment)
        if url:
            self._print(f"page    {url}/ to chat, and to watch the three steps of each round")
        self._print(f"http    {_http(url, self._plan)}")
        self._print(f"grpc    {self._plan.address}")
        if metrics := _metrics(deployment):
            self._print(f"metrics {metrics}")
        self._print(f"logs    {deployment.log_dir}")
        if command:
            self._print(f"run     {shlex.join(command)}")
            return
        address = self._plan.address
        flag = "" if address == f"{HOST}:{DEFAULT_PORT}" else f"--address {address} "
        example = f'{how_called()} generate {flag}--temperature 0 "Why is the sky blue?"'
        self._console.print(Text.assemble("try     ", (example, "bold")), soft_wrap=True)
        if url:
            asks_chat = served is None or served.has_chat_template
            self._console.print(
                Text.assemble("        ", (curl_example(f"{url}/v1", asks_chat=asks_chat), "bold")),
                soft_wrap=True,
            )
        self._print("stop    Ctrl-C")

    def show_stopping(self) -> None:
        """After the first Ctrl-C."""
        self._print("stopping; Ctrl-C again kills what is still running")

    def show_failure(self, error: ForethoughtError, deployment: LocalDeployment) -> None:
        """Why it ends, with the last words of those to blame. On stderr."""
        console = Console(stderr=True)
        print_failure(console, error.message)
        if isinstance(error, TierExitedError) and error.cause:
            console.print(Text(f"its log: {error.log_path}"), soft_wrap=True)
        elif isinstance(error, TierExitedError):
            _print_log(console, error.log_path, error.last_lines)
        if isinstance(error, StartupTimeoutError):
            for running in deployment.running:
                if running.state is not TierState.READY:
                    _print_log(console, running.log_path, read_last_lines(running.log_path))

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


def _gateway_url(deployment: LocalDeployment) -> str:
    """Without a slash at its end; empty where there is no gateway."""
    found = (each.tier.address for each in deployment.running if each.tier.name == "gateway")
    return next((f"http://{address}" for address in found), "")


def _http(url: str, plan: Plan) -> str:
    if url:
        return f"{url}/v1 is the base URL of OpenAI's API"
    if plan.options.http_port == 0:
        return "none (--http-port 0)"
    return "none: pip install 'forethought[gateway]' for OpenAI's API and the page"


def curl_example(url: str, *, asks_chat: bool) -> str:
    """A first question, or a text to continue where the model knows no conversations."""
    path, body = "completions", '{"prompt": "The sky is blue because", "max_tokens": 64}'
    if asks_chat:
        path = "chat/completions"
        body = '{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
    return f"curl {url}/{path} -H 'Content-Type: application/json' -d '{body}'"


def _metrics(deployment: LocalDeployment) -> str:
    """Where each tier serves them."""
    found = {each.tier.name: find_admin_address(each.log_path) for each in deployment.running}
    urls = [f"http://{address}/metrics ({name})" for name, address in found.items() if address]
    return ", ".join(reversed(urls))


def _shown(tier: Tier) -> str:
    """Where it listens."""
    path = socket_of_url(tier.address)
    return tier.address if path is None else short_path(Path(path))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _print_log(console: Console, path: Path, lines: Sequence[str]) -> None:
    console.print(Text(f"last lines of {path}:" if lines else f"{path} is empty"), soft_wrap=True)
    for line in lines:
        console.print(Text.assemble("  ", Text.from_ansi(line)), soft_wrap=True)
