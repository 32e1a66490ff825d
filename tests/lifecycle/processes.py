"""The three tiers as processes, which a test may stop, kill and start again."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from forethought.local.processes.process import launcher
from tests.ports import free_port

PATIENCE_S = 120


class TierProcess:
    """`python -m <package>` on an address of its own, with the same words each time."""

    def __init__(self, package: str, arguments: Sequence[str], log: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._command = [sys.executable, "-m", package, "--listen", self.address, *arguments]
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, unless it runs. It ends with the test process, whatever ends that."""
        if self.process is not None and self.process.poll() is None:
            return
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher(), *self._command],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once there is one."""
        return self.process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Ends it now."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE_S)

    def maps(self) -> str:
        """The files that are mapped into its memory, one a line."""
        return Path(f"/proc/{self.process.pid}/maps").read_text()

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text()


class Processes:
    """A target, a draft with the same model, and an orchestrator that looks nothing up."""

    def __init__(self, model: Path, logs: Path) -> None:
        engine = ["--dtype", "float32", "--device", "cpu", "--num-threads", "1"]
        common = ["--model", str(model), "--log-format", "json"]
        self.target = TierProcess("target_service", [*common, *engine], logs / "target.log")
        self.draft = TierProcess("draft_service", [*common, *engine], logs / "draft.log")
        wiring = ["--draft", self.draft.address, "--target", self.target.address, "--lookup", ""]
        self.orchestrator = TierProcess(
            "orchestrator",
            # A draft that is late on a busy machine would make other draws, and other text.
            [*common, *wiring, "--num-speculative-tokens", "3", "--draft-timeout-s", "60"],
            logs / "orchestrator.log",
        )

    @property
    def all(self) -> tuple[TierProcess, ...]:
        return self.target, self.draft, self.orchestrator

    def start(self) -> None:
        """Starts those that do not run."""
        for tier in self.all:
            tier.start()

    def kill(self) -> None:
        """Ends all of them now."""
        for tier in self.all:
            tier.kill()
