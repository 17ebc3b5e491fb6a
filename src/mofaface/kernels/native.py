"""The compiled library: which of its builds this processor can run, and its functions through ctypes."""

import ctypes
import os
from functools import cache
from pathlib import Path

import torch

# Best first, with what torch calls a processor that has the instructions.
LEVELS = (("avx512", ("AVX512",)), ("avx2", ("AVX512", "AVX2")), ("baseline", None))
VARIABLE = "MOFAFACE_NATIVE"


class Rows(ctypes.Structure):
    """struct Rows of fused.h."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("start", "column", "value")]


class Basis(ctypes.Structure):
    """struct Basis of fused.h."""

    _fields_ = [(name, ctypes.c_int32) for name in ("tiles", "modes", "kind")] + [
        (name, ctypes.c_void_p) for name in ("mean", "numbers", "scale")
    ]


class Model(ctypes.Structure):
    """struct Model of fused.h."""

    _fields_ = (
        [
            (name, ctypes.c_int32)
            for name in ("frontal", "rows", "points", "shape_expression", "reflectance_modes")
        ]
        + [(name, Basis) for name in ("geometry", "reflectance", "landmarks")]
        + [(name, Rows) for name in ("S", "S_transposed", "ring")]
    )


class Camera(ctypes.Structure):
    """struct Camera of fused.h."""

    _fields_ = [
        (name, ctypes.c_float) for name in ("focal", "centre_x", "centre_y", "nearest", "distance", "ambient")
    ]


class Batch(ctypes.Structure):
    """struct Batch of fused.h."""

    _fields_ = [(name, ctypes.c_int32) for name in ("pictures", "height", "width", "code_size")] + [
        (name, ctypes.c_void_p)
        for name in (
            "codes",
            "image",
            "targets",
            "confidence",
            "photo",
            "land",
            "places",
            "front",
            "photo_gradient",
            "land_gradient",
        )
    ]


@cache
def open_library(path: Path) -> ctypes.CDLL:
    """The library of a file, its functions declared."""
    library = ctypes.CDLL(str(path))
    library.mofaface_workspace.argtypes = (ctypes.POINTER(Model), ctypes.c_int32, ctypes.c_int32)
    library.mofaface_workspace.restype = ctypes.c_int64
    structures = (ctypes.POINTER(Model), ctypes.POINTER(Camera), ctypes.POINTER(Batch))
    library.mofaface_terms.argtypes = (*structures, ctypes.c_void_p, ctypes.c_int32)
    library.mofaface_terms.restype = None
    numbers = (ctypes.c_void_p,) * 4 + (ctypes.c_int64,) + (ctypes.c_float,) * 4
    library.mofaface_adadelta.argtypes = (*numbers, ctypes.c_int32)
    library.mofaface_adadelta.restype = None
    return library


def built(level: str) -> Path | None:
    """The installed build for a set of instructions; None where it was not built."""
    found = sorted(Path(__file__).parent.glob(f"_native_{level}.*"))
    return next((path for path in found if path.suffix in (".so", ".dylib")), None)


def native_level() -> str | None:
    """The build in use: "avx512", "avx2", "baseline" or a file; None where everything runs through the plain code.

    The environment variable MOFAFACE_NATIVE names a build to be used, a library's file, or "off". Raises ValueError when
    it names anything else, or a build that this installation or processor lacks.
    """
    wanted = os.environ.get(VARIABLE, "")
    if wanted == "off":
        return None
    if os.sep in wanted:
        return wanted
    names = [name for name, _ in LEVELS]
    if wanted and wanted not in names:
        raise ValueError(
            f"{VARIABLE} is {wanted!r}; it may be {', '.join(names)}, the path of a library, or off"
        )
    capability = torch.backends.cpu.get_cpu_capability()
    for name, capabilities in LEVELS:
        runs = capabilities is None or capability in capabilities
        if wanted in ("", name) and runs and built(name) is not None:
            return name
    if wanted:
        raise ValueError(
            f"{VARIABLE} asks for the build {wanted!r}, which this installation or this processor ({capability}) lacks; "
            "install again with a compiler at hand, or unset it"
        )
    return None


def library() -> ctypes.CDLL | None:
    """The library of `native_level`."""
    level = native_level()
    if level is None:
        return None
    return open_library(built(level) or Path(level))
