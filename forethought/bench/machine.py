"""What a benchmark ran on: numbers without this say little."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_DISTRIBUTIONS = ("forethought", "grpcio", "numpy", "tokenizers", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine of the benchmark's own process, and how busy it was."""

    cpu: str
    num_cores: int  # that this process may use
    system: str
    load_average: tuple[float, float, float]  # over 1, 5 and 15 minutes
    python: str
    versions: dict[str, str]  # of the distributions that matter and are installed


def describe_machine() -> Machine:
    """Looks at this machine now. Call it before the load begins."""
    return Machine(
        cpu=_cpu_name(),
        num_cores=_num_cores(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load_average=os.getloadavg(),
        python=platform.python_version(),
        versions=_versions(),
    )


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
