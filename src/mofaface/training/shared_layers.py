"""Layers that depend on the whole batch, for processes that each see a part of it.

torch's SyncBatchNorm runs on GPUs only and is no BatchNorm2d, which the encoders ask for where they fix statistics.
"""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.training.processes import Processes


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation by mean and variance over the batches of all processes."""

    def forward(self, input: Float[Tensor, "batch channels _ _"]) -> Float[Tensor, "batch channels _ _"]:
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        # Sums of bfloat16 numbers are kept in float32, as torch does it.
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        every = _Gathered.apply(torch.stack((x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0))))
        means, variances = every.unbind(1)
        mean = means.mean(0)
        # Parts are of one size: what is within them, and what is between them.
        variance = (variances + (means - mean).square()).mean(0)
        count = len(every) * x.numel() / x.shape[1]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


class SharedDropout(nn.Dropout):
    """Dropout that draws the masks of the whole batch and takes its part, so that they are those of one process."""

    def __init__(self, p: float, processes: Processes):
        super().__init__(p)
        self._processes = processes

    def forward(self, input: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        if not self.training:
            return input
        batch = self._processes.count * len(input)
        kept = input.new_empty(batch, *input.shape[1:]).bernoulli_(1 - self.p).div_(1 - self.p)
        return input * kept[self._processes.part(batch)]


class _Gathered(torch.autograd.Function):
    """The tensors of all processes; whatever any of them makes of one comes back to it as a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Float[Tensor, "processes *_"]:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x)
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]


def share_layers(module: nn.Module, processes: Processes) -> None:
    """Replace the layers of a network that depend on the whole batch; parameters and buffers stay the same tensors."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            assert child.eps is not None
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared._parameters, shared._buffers = child._parameters, child._buffers
            setattr(module, name, shared)
        elif isinstance(child, nn.Dropout):
            setattr(module, name, SharedDropout(child.p, processes))
        else:
            share_layers(child, processes)
