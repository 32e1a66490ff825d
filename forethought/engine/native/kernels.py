"""The C extension, in the build for this machine; see kernels.c and setup.py.

Its functions take the structures of structures.py.
"""

import ctypes
import platform
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import structlog
import torch

from forethought.engine.native.structures import difference

_log = structlog.get_logger(__name__)

X86_BUILDS = ("default", "avx2", "avx512", "avx512_vnni", "avx512_bf16")
ARM_BUILDS = ("default", "dotprod")
"""Each for machines that can run those before it, too."""

AT_HWCAP, HWCAP_ASIMDDP = 16, 1 << 20
"""Where Linux says what an ARM processor can do, and that it multiplies and adds bytes."""


def builds_for_this_machine() -> tuple[str, ...]:
    """Those that run here, the fastest last, unless it says that it has slow pairs."""
    if platform.machine() in {"aarch64", "arm64"}:
        return ARM_BUILDS if _has_dot_products() else ARM_BUILDS[:1]
    best = torch.backends.cpu.get_cpu_capability().lower()
    if best == "avx512" and torch.cpu._is_vnni_supported():  # noqa: SLF001
        best = "avx512_vnni"
        if torch.cpu._is_avx512_bf16_supported():  # noqa: SLF001
            best = "avx512_bf16"
    return X86_BUILDS[: X86_BUILDS.index(best) + 1] if best in X86_BUILDS else X86_BUILDS[:1]


def _has_dot_products() -> bool:
    if platform.system() != "Linux":
        return platform.system() == "Darwin"  # every Mac with such a processor has them
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.argtypes, getauxval.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(getauxval(AT_HWCAP) & HWCAP_ASIMDDP)


def load_build(build: str) -> Any:
    """The module of one build.

    Raises:
        ModuleNotFoundError: there is none.
        ImportError: this system cannot load it, or it was built from other sources than these.
    """
    name = f"forethought.engine.native._kernels_{build}"
    # After torch, so that both use the threads of one OpenMP.
    module = import_module(name)
    if other := difference(module):
        raise OtherSourcesError(
            f"{module.__file__} was built from other sources than those beside it ({other} differ):"
            " install forethought again, or delete that file to do without it",
            name=name,
        )
    return module


class OtherSourcesError(ImportError):
    """A build that must not be used, whatever else there is."""


def find_fastest() -> tuple[Any, str]:
    """The build for this machine, or None and why there is none."""
    problems = []
    for build in reversed(builds_for_this_machine()):
        try:
            module = load_build(build)
        except OtherSourcesError:
            raise
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            problems.append(str(error))
            continue
        if not module.HAS_SLOW_PAIRS:
            return module, ""
    if problems:
        return None, problems[0]
    builds = dict.fromkeys(X86_BUILDS + ARM_BUILDS)
    others = [build for build in builds if find_spec(f"{__package__}._kernels_{build}")]
    if others:
        return None, f"this processor can run none of those that are there ({', '.join(others)})"
    return None, "when forethought was installed there was no C compiler with OpenMP"


native: Any
"""The module; None if there is none."""
native, why_missing = find_fastest()

are_built = native is not None
"""Whether there are any."""


@cache
def warn_if_missing() -> None:
    """Says once in a process that it computes without the kernels, and what that costs."""
    if not are_built:
        _log.warning(
            "kernels_missing",
            why=why_missing,
            cost="passes over few tokens take 4 to 6 times as long in int4, 2 to 3 times in"
            " bfloat16 and 1.4 times in float32, rows of the vocabulary up to 100 times",
            remedy="install a C compiler with OpenMP, such as gcc, and then forethought again",
        )
