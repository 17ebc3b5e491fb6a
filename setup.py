"""Builds the compiled kernels where a compiler is at hand; without one the package installs and works without them."""

import platform
import sys
from glob import glob

from setuptools import Extension, setup

SOURCES = ["src/mofaface/kernels/fused.cpp", "src/mofaface/kernels/adadelta.cpp"]
# GCC 12 warns about its own headers (-w).
FLAGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-w", "-pthread"]
# One library for each set of instructions; the best that the processor has is loaded at run time.
LEVELS = {"baseline": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    LEVELS |= {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"]}

# The vectors are those of GCC and Clang, which Microsoft's compiler does not know.
extensions = (
    []
    if sys.platform == "win32"
    else [
        Extension(
            f"mofaface.kernels._native_{level}",
            SOURCES,
            depends=sorted(glob("src/mofaface/kernels/*.h")),
            extra_compile_args=FLAGS + flags,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for level, flags in LEVELS.items()
    ]
)

setup(ext_modules=extensions)
