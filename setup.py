"""The one thing pyproject.toml cannot say: extensions that may fail to build.

The same kernels for each kind of machine; at run time the engine takes the best that its own can
run, see kernels.py. Without a C compiler it runs on torch's own operations, slower.
"""

import platform

from setuptools import Extension, setup

FLAGS = [
    "-O3",
    "-std=gnu11",
    "-fopenmp",
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-fno-trapping-math",
    "-fno-tree-ter",  # GCC would put off sums of whole numbers until its registers are full
    "-Wno-psabi",
]
SOURCES = (
    "attention",
    "groups",
    "kernels",
    "layers",
    "layouts",
    "quants",
    "rows",
    "steps",
    "threads",
)
HEADERS = ({*SOURCES} - {"kernels"}) | {"float16", "vectors"}
KINDS = {"default": []}
if platform.machine() in {"x86_64", "AMD64"}:
    KINDS["avx2"] = ["-march=x86-64-v3"]
    KINDS["avx512"] = ["-march=x86-64-v4", "-mprefer-vector-width=512"]
    KINDS["avx512_vnni"] = [*KINDS["avx512"], "-mavx512vnni"]
    KINDS["avx512_bf16"] = [*KINDS["avx512_vnni"], "-mavx512bf16"]
if platform.machine() in {"aarch64", "arm64"}:
    KINDS["dotprod"] = ["-march=armv8.2-a+dotprod"]

setup(
    ext_modules=[
        Extension(
            f"forethought.engine.native._kernels_{kind}",
            [f"forethought/engine/native/{name}.c" for name in SOURCES],
            depends=[f"forethought/engine/native/{name}.h" for name in HEADERS],
            define_macros=[("MODULE", f"_kernels_{kind}")],
            extra_compile_args=FLAGS + flags,
            extra_link_args=["-fopenmp"],
            optional=True,
        )
        for kind, flags in KINDS.items()
    ]
)
