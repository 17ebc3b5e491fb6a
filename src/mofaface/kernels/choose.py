"""Which code computes the terms of the loss: the fastest that can."""

from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mofaface.decoder import Decoder
from mofaface.kernels import native
from mofaface.kernels.packing import Precision
from mofaface.kernels.terms import FusedTerms, LossTerms, PlainTerms

# Before, Triton multiplied no tiles of eight pictures.
OLDEST_TRITON = (3, 5)


def loss_terms(
    decoder: Decoder, points: Int[Tensor, "points"], precision: Precision = "float32"
) -> LossTerms:
    """The terms for one decoder and the vertices of its landmarks, by the fastest code; the plain one ignores `precision`.

    The model is laid out anew here, on its device: change or move it before.
    """
    mean = decoder.model.mean_shape
    path = fastest_path(mean.device, mean.dtype)
    if path == "compiled":
        return FusedTerms(decoder, points, precision)
    if path == "triton":
        from mofaface.kernels.triton_terms import TritonTerms

        return TritonTerms(decoder, points, precision)
    return PlainTerms(decoder, points)


def fastest_path(device: torch.device, dtype: torch.dtype) -> Literal["compiled", "triton", "plain"]:
    """ "compiled" for float32 on a CPU where the kernel was built, "triton" for float32 on CUDA, otherwise "plain"."""
    if dtype == torch.float32:
        if device.type == "cpu" and native.native_level() is not None:
            return "compiled"
        # AMD's devices are called cuda, too; nothing here was tried on them.
        if device.type == "cuda" and torch.version.hip is None and has_triton():
            return "triton"
    return "plain"


def has_triton() -> bool:
    """Whether a triton is installed that knows what the kernels need."""
    try:
        found = version("triton")
    except PackageNotFoundError:
        return False
    return tuple(int(part) for part in found.split(".")[:2]) >= OLDEST_TRITON
