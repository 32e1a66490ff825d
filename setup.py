"""The one thing pyproject.toml cannot say: extensions that may fail to build.

The same kernels for each kind of machine that torch tells apart; at run time the engine takes those
of its own. Without a C compiler it runs on torch's own operations, slower.
"""

import platform

from setuptools import Extension, setup

FLAGS = ["-O3", "-std=gnu11", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]
KINDS = {"default": []}
if platform.machine() in {"x86_64", "AMD64"}:
    KINDS["avx2"] = ["-march=x86-64-v3"]
    KINDS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]

setup(
    ext_modules=[
        Extension(
            f"forethought.engine._kernels_{kind}",
            ["forethought/engine/kernels.c", "forethought/engine/rows.c"],
            depends=["forethought/engine/rows.h", "forethought/engine/vectors.h"],
            define_macros=[("MODULE", f"_kernels_{kind}")],
            extra_compile_args=FLAGS + flags,
            extra_link_args=["-fopenmp"],
            optional=True,
        )
        for kind, flags in KINDS.items()
    ]
)
