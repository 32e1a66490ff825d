"""The C extension, in the build for this machine; see kernels.c and setup.py.

Its functions take the structures of structures.py.
"""

from importlib import import_module
from typing import Any

import torch

from forethought.engine.native.structures import difference

BUILDS = ("default", "avx2", "avx512", "avx512_vnni", "avx512_bf16")
"""Each for machines that can run those before it, too."""


def builds_for_this_machine() -> tuple[str, ...]:
    """Those that run here, the fastest last, unless it says that it has slow pairs."""
    best = torch.backends.cpu.get_cpu_capability().lower()
    if best == "avx512" and torch.cpu._is_vnni_supported():  # noqa: SLF001
        best = "avx512_vnni"
        if torch.cpu._is_avx512_bf16_supported():  # noqa: SLF001
            best = "avx512_bf16"
    return BUILDS[: BUILDS.index(best) + 1] if best in BUILDS else BUILDS[:1]


def load_build(build: str) -> Any:
    """The module of one build; None if there is none, since there was no C compiler for it.

    Raises:
        ImportError: it was built from other sources than these.
    """
    name = f"forethought.engine.native._kernels_{build}"
    try:
        # After torch, so that both use the threads of one OpenMP.
        module = import_module(name)
    except ImportError:
        return None
    if other := difference(module):
        raise ImportError(
            f"{module.__file__} was built from other sources than those beside it ({other} differ):"
            " install forethought again, or delete that file to do without it",
            name=name,
        )
    return module


def _fastest() -> Any:
    for build in reversed(builds_for_this_machine()):
        module = load_build(build)
        if module is not None and not module.HAS_SLOW_PAIRS:
            return module
    return None


native: Any = _fastest()
"""The module; None if there was no C compiler when this was installed."""

are_built = native is not None
"""Whether there are any."""
