"""The builds of the C kernels that this machine can run."""

import torch

BUILDS = ["default", "avx2", "avx512"]


def builds_for_this_machine() -> list[str]:
    best = torch.backends.cpu.get_cpu_capability().lower()
    return BUILDS[: BUILDS.index(best) + 1] if best in BUILDS else BUILDS[:1]
