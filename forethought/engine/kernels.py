"""The C extension, in the build for this machine; see kernels.c and setup.py."""

from importlib import import_module
from typing import Any

import torch

native: Any = None
"""The module; None if there was no C compiler when this was installed."""

_kind = torch.backends.cpu.get_cpu_capability().lower()
for _name in (_kind if _kind in {"avx2", "avx512"} else "default", "default"):
    try:
        # After torch, so that both use the threads of one OpenMP.
        native = import_module(f"forethought.engine._kernels_{_name}")
        break
    except ImportError:
        continue

are_built = native is not None
"""Whether there are any."""
