"""A folder for each deployment of this machine: its logs, and what its tiers share.

    .forethought/50050/target.log

It is named by the orchestrator's port and held by a lock on the folder as long as the deployment
runs. Where another deployment has it, in another container for instance, the next one is
`50050-2`. A folder that cannot be written to is replaced by a temporary one.
"""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from forethought.local.plan.plan_error import PlanError

PARENT = Path(".forethought")
_MOST_OF_A_PORT = 100


@dataclass(frozen=True, slots=True)
class DeploymentFolder:
    """A folder that no other deployment has."""

    path: Path
    notes: tuple[str, ...] = ()  # what differs from what the reader may expect

    @property
    def shared_cores(self) -> Path:
        """The file by which tiers on the same cores take turns. It goes with the deployment."""
        return self.path / "shared.cores"


@contextlib.contextmanager
def deployment_folder(wanted: Path | None, port: int) -> Iterator[DeploymentFolder]:
    """Holds a folder until the deployment ends.

    Args:
        wanted: the folder that was asked for; None: one named by the port.
        port: of the orchestrator.

    Raises:
        PlanError: the folder that was asked for cannot be used, or there is none to write to.
    """
    with contextlib.ExitStack() as held:
        folder = _asked_for(wanted, held) if wanted else _named_by_port(port, held)
        held.callback(folder.shared_cores.unlink, missing_ok=True)
        yield folder


def _asked_for(path: Path, held: contextlib.ExitStack) -> DeploymentFolder:
    try:
        if not _hold(path, held):
            raise PlanError(f"--log-dir {path}: another deployment writes its logs there")
    except OSError as error:
        raise PlanError(f"--log-dir {path}: {error.strerror}") from error
    return DeploymentFolder(path)


def _named_by_port(port: int, held: contextlib.ExitStack) -> DeploymentFolder:
    try:
        for number in range(1, _MOST_OF_A_PORT):
            path = PARENT / (str(port) if number == 1 else f"{port}-{number}")
            if _hold(path, held):
                return DeploymentFolder(path)
    except OSError as error:
        why = f"{PARENT.resolve()}: {error.strerror}"
        try:
            path = Path(tempfile.mkdtemp(prefix=f"forethought-{port}-"))
        except OSError as also:
            raise PlanError(f"no folder for logs: {why}; name one with --log-dir") from also
        _hold(path, held)
        return DeploymentFolder(path, (f"logs go to {path} ({why})",))
    raise PlanError(f"no folder for logs: {PARENT} has {_MOST_OF_A_PORT} deployments that run")


def _hold(path: Path, held: contextlib.ExitStack) -> bool:
    """Makes and locks a folder. False where somebody else has the lock. Raises OSError where it
    cannot be written to."""
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    held.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    with tempfile.TemporaryFile(dir=path):
        return True
