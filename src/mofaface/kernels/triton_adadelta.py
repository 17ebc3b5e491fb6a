"""Triton: AdaDelta in one pass over memory (Zeiler 2012), for CUDA: four numbers read and three written for each weight.

torch's own step, operation by operation, moves about 27.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK = 1024


@triton.jit
@no_type_check
def adadelta_kernel(p, g, square, change, rate, moves, count, rho, eps, decay, BLOCK: tl.constexpr):
    """One step of a block of weights; none of a step that does not move."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = i < count
    if tl.load(moves) != 0:
        p_, g_ = tl.load(p + i, here, 0.0), tl.load(g + i, here, 0.0)
        s, c = tl.load(square + i, here, 0.0), tl.load(change + i, here, 0.0)
        g_ += decay * p_
        s = rho * s + (1 - rho) * g_ * g_
        step = tl.sqrt(c + eps) / tl.sqrt(s + eps) * g_
        tl.store(p + i, p_ - tl.load(rate) * step, here)
        tl.store(square + i, s, here)
        tl.store(change + i, rho * c + (1 - rho) * step * step, here)


@torch.no_grad()
def adadelta_step(
    p: Tensor,
    gradient: Tensor,
    square_avg: Tensor,
    acc_delta: Tensor,
    rate: Tensor,
    moves: Tensor,
    rho: float,
    eps: float,
    weight_decay: float = 0.0,
) -> None:
    """Move a parameter and its state (torch.optim.Adadelta's names) by a gradient, in place.

    `rate` and `moves` hold one number each on the same device, so that a CUDA graph can be given another learning rate,
    and told to leave everything as it is (0) when a loss or a gradient is not finite. Raises ValueError for tensors
    that are not float32 or not laid out alike without gaps.
    """
    tensors = (p, gradient, square_avg, acc_delta)
    if any(t.dtype != torch.float32 or t.stride() != p.stride() or t.shape != p.shape for t in tensors):
        came = ", ".join(f"{str(t.dtype).removeprefix('torch.')} {tuple(t.stride())}" for t in tensors)
        raise ValueError(
            f"parameter, gradient and state must be float32 and laid out alike, got {came}; use torch.optim.Adadelta"
        )
    if not (p.is_contiguous() or (p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last))):
        raise ValueError(
            f"a parameter must fill its memory in a usual order, got strides {tuple(p.stride())}"
        )
    with torch.cuda.device_of(p):
        adadelta_kernel[(triton.cdiv(p.numel(), _BLOCK),)](
            *tensors, rate, moves, p.numel(), rho, eps, weight_decay, BLOCK=_BLOCK
        )
