"""How much memory a process can still get.

Linux promises more than it has: memory that is asked for is there in name until it is written to,
and whoever then finds none is killed. So this is asked before. A container has limits of its own
(control groups, version 1 or 2), which the machine's numbers do not show.
"""

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")


def available_memory(device: torch.device) -> float:
    """Bytes that can be had on a device; infinite where the system does not say."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return min(_machine(), *_groups())


def _machine() -> float:
    with suppress(OSError):
        for line in (_PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return math.inf


def _groups() -> Iterator[float]:
    """What each control group that this process is in has left."""
    yield math.inf
    try:
        memberships = (_PROC / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        if not controllers:
            yield from map(_left_2, _with_parents(_CGROUPS, path))
        elif "memory" in controllers.split(","):
            yield from map(_left_1, _with_parents(_CGROUPS / "memory", path))


def _with_parents(root: Path, path: str) -> Iterator[Path]:
    """A group's folder, and those of the groups it is in."""
    folder = root / path.strip("/")
    yield folder
    while folder != root:
        folder = folder.parent
        yield folder


def _left_2(folder: Path) -> float:
    return _left(folder / "memory.max", folder / "memory.current", folder, "inactive_file")


def _left_1(folder: Path) -> float:
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    return _left(folder / names[0], folder / names[1], folder, "total_inactive_file")


def _left(limit: Path, usage: Path, folder: Path, reclaimable: str) -> float:
    """Room below a limit; infinite where there is none. Files that are only cached give way."""
    try:
        # "max" is no number: there is no limit.
        left = int(limit.read_text()) - int(usage.read_text())
    except (OSError, ValueError):
        return math.inf
    with suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text().splitlines():
            if line.startswith(f"{reclaimable} "):
                left += int(line.split()[1])
    return max(left, 0)
