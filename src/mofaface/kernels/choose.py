"""Which code computes the terms of the loss: the fastest that can."""

from importlib.util import find_spec

import torch
from jaxtyping import Int
from torch import Tensor

from mofaface.decoder import Decoder
from mofaface.kernels import native
from mofaface.kernels.packing import Precision
from mofaface.kernels.terms import FusedTerms, LossTerms, PlainTerms


def loss_terms(
    decoder: Decoder, points: Int[Tensor, "points"], precision: Precision = "float32"
) -> LossTerms:
    """The terms for one decoder and the vertices of its landmarks.

    A float32 model is computed by the compiled kernel on the CPU, where it was built, and by Triton's on CUDA, where
    triton is installed; every other by the plain decoder and losses. The numbers are the same up to rounding.
    The model is laid out anew here, on its device: change or move it before.
    """
    mean = decoder.model.mean_shape
    if mean.dtype == torch.float32:
        if mean.device.type == "cpu" and native.native_level() is not None:
            return FusedTerms(decoder, points, precision)
        # ROCm's devices are called cuda, too; nothing here was tried on them.
        if mean.device.type == "cuda" and torch.version.hip is None and find_spec("triton") is not None:
            from mofaface.kernels.triton_terms import TritonTerms

            return TritonTerms(decoder, points, precision)
    return PlainTerms(decoder, points)
