"""Optimisers and their rates."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mofaface.encoders import Encoder
from mofaface.kernels.adadelta import Adadelta
from mofaface.training.config import OptimiserConfig

try:
    from mofaface.kernels.triton_adadelta import adadelta_step
except ImportError:
    adadelta_step = None  # type: ignore[assignment]

# Zeiler (2012) and Caffe's solver, which the paper used; the paper names only the rates.
ADADELTA_RHO, ADADELTA_EPS = 0.95, 1e-6
# The second moment forgets fast: with 0.999 a sudden gradient makes steps of three times the rate, and a run diverges.
ADAMW_BETAS = (0.9, 0.99)


def build_optimiser(
    encoder: Encoder, config: OptimiserConfig, on_device: bool = False
) -> torch.optim.Optimizer:
    """The optimiser of an encoder, with a group of its own for the z-translation.

    `on_device` makes one whose rates and decisions are tensors, so that its step can be part of a CUDA graph.
    """
    rates = {"z": config.rate_z, "backbone": config.rate * config.backbone, "rest": config.rate}
    groups = [{"params": p, "rate": rates[name]} for name, p in encoder.parameter_groups().items() if p]
    optimiser: torch.optim.Optimizer
    if config.name == "adadelta":
        kind = DeviceAdadelta if on_device else Adadelta
        optimiser = kind(groups, lr=config.rate, rho=ADADELTA_RHO, eps=ADADELTA_EPS, capturable=on_device)
    else:
        decay, fused = config.weight_decay, True if on_device else None
        optimiser = torch.optim.AdamW(
            groups, config.rate, ADAMW_BETAS, weight_decay=decay, capturable=on_device, fused=fused
        )
    if on_device:
        for group in optimiser.param_groups:
            group["lr"] = torch.full((), group["lr"], device=group["params"][0].device)
    return optimiser


def set_rates(
    optimiser: torch.optim.Optimizer, config: OptimiserConfig, iteration: int, iterations: int
) -> None:
    """Give every group its rate for this iteration."""
    factor = min(1.0, (iteration + 1) / config.warmup) if config.warmup else 1.0
    if config.cosine:
        factor *= 0.5 * (1 + math.cos(math.pi * iteration / iterations))
    for group in optimiser.param_groups:
        rate = factor * group["rate"]
        if isinstance(group["lr"], Tensor):
            # A recorded step goes on reading this tensor.
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def step_where(optimiser: torch.optim.Optimizer, finite: Tensor) -> None:
    """Let the optimiser step where the flag is true; one `on_device` decides on the device, without being waited for."""
    if optimiser.defaults["capturable"]:
        # The name is torch's, whose fused optimisers look there.
        optimiser.found_inf = (~finite).float()  # type: ignore[attr-defined]
        optimiser.step()
    elif finite:
        optimiser.step()


class DeviceAdadelta(torch.optim.Adadelta):
    """torch.optim.Adadelta with the same state, for a CUDA graph: rates are tensors, and `found_inf` of 1 moves nothing."""

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; closures are not taken."""
        if closure is not None:
            raise ValueError("DeviceAdadelta takes no closure; use torch.optim.Adadelta")
        moving = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not moving:
            return
        for _, p in moving:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), device=p.device)
                self.state[p]["square_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                self.state[p]["acc_delta"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        counts = [self.state[p]["step"] for _, p in moving]
        moves = torch.ones_like(counts[0]) if self.found_inf is None else 1 - self.found_inf
        # A list, because a single tensor would be read as a number.
        torch._foreach_add_(counts, [moves] * len(counts))
        for group, p in moving:
            tensors = (p, p.grad, self.state[p]["square_avg"], self.state[p]["acc_delta"], group["lr"], moves)
            # In one pass where there is a kernel for it: operation by operation, several times as much memory is moved.
            step = adadelta_step if adadelta_step is not None and _simple(p, p.grad) else plain_step
            step(*tensors, group["rho"], group["eps"], group["weight_decay"])


def _simple(p: Tensor, gradient: Tensor) -> bool:
    """Whether the kernel takes a parameter: float32 on CUDA in a usual order, its gradient in the same."""
    usual = p.is_contiguous() or (p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last))
    return (
        usual and p.is_cuda and p.dtype == gradient.dtype == torch.float32 and p.stride() == gradient.stride()
    )


def plain_step(
    p: Tensor,
    gradient: Tensor,
    square_avg: Tensor,
    acc_delta: Tensor,
    rate: Tensor,
    moves: Tensor,
    rho: float,
    eps: float,
    weight_decay: float,
) -> None:
    """Move a parameter and its state by a gradient, in place, where `moves` is 1."""
    # A gradient that is no number would survive a factor of 0.
    g = gradient.add(p, alpha=weight_decay).masked_fill_(moves == 0, 0)
    square_avg.mul_(1 - moves * (1 - rho)).add_(g * g * moves, alpha=1 - rho)
    change = (acc_delta + eps).sqrt_().div_((square_avg + eps).sqrt_()).mul_(g)
    acc_delta.mul_(1 - moves * (1 - rho)).add_(change * change * moves, alpha=1 - rho)
    p.sub_(change * (rate * moves))
