"""AdaDelta with torch's numbers in one pass over memory, where the compiled kernel is at hand."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mofaface.kernels import native


class Adadelta(torch.optim.Adadelta):
    """torch.optim.Adadelta (Zeiler 2012) with the same state; a step reads and writes each number once.

    Torch's own step runs wherever the kernel cannot: nothing compiled, another device or type, gradients that are
    sparse or laid out otherwise than their parameter.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        library = native.library()
        moving = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if library is None or not all(_simple(group, p) for group, p in moving):
            super().step()
            return loss
        threads = torch.get_num_threads()
        for group, p in moving:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["square_avg"] = torch.zeros_like(p, memory_format=torch.preserve_format)
                state["acc_delta"] = torch.zeros_like(p, memory_format=torch.preserve_format)
            state["step"] += 1
            memory = (t.data_ptr() for t in (p, p.grad, state["square_avg"], state["acc_delta"]))
            numbers = (float(group["lr"]), group["rho"], group["eps"], group["weight_decay"])
            library.mofaface_adadelta(*memory, p.numel(), *numbers, threads)
        return loss


def _simple(group: dict[str, Any], p: Tensor) -> bool:
    """Whether the kernel can step a parameter: dense float32 on the CPU, gradient and state laid out alike."""
    assert p.grad is not None
    if (
        group["maximize"]
        or p.device.type != "cpu"
        or p.dtype != torch.float32
        or p.grad.dtype != torch.float32
    ):
        return False
    if p.grad.layout != torch.strided or p.grad.stride() != p.stride():
        return False
    return torch._debug_has_internal_overlap(p) == 0 and _dense(p)


def _dense(p: Tensor) -> bool:
    """True where the numbers fill their memory without gaps, in whatever order of axes."""
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(p.stride(), p.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True
