"""The C extension, in the build for this machine; see kernels.c and setup.py."""

from importlib import import_module
from typing import Any

import torch

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


_INTERFACE = 4  # as in kernels.c

native: Any = None
"""The module; None if there was no C compiler when this was installed."""

for _name in reversed(builds_for_this_machine()):
    try:
        # After torch, so that both use the threads of one OpenMP.
        _module = import_module(f"forethought.engine.native._kernels_{_name}")
    except ImportError:
        continue
    # One that was built before the last change of kernels.c is as good as none.
    if getattr(_module, "INTERFACE", 0) == _INTERFACE and not _module.HAS_SLOW_PAIRS:
        native = _module
        break

are_built = native is not None
"""Whether there are any."""
