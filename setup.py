"""The one thing pyproject.toml cannot say: an extension that may fail to build.

Without a C compiler the engine runs on torch's own operations, slower.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "forethought.engine._kernels",
            ["forethought/engine/kernels.c"],
            extra_compile_args=["-O3", "-std=gnu11", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ]
)
