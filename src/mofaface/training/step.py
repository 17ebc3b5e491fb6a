"""One iteration of training, from a batch to moved weights.

Nothing in it asks a GPU for a value, so that a CUDA graph can record it (graph.py): what depends on values is decided
on the device, and what a run tells is added up there.
"""

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from mofaface.encoders import Encoder
from mofaface.kernels.terms import Terms
from mofaface.losses import total
from mofaface.training.batches import Batch
from mofaface.training.config import TrainConfig
from mofaface.training.optimiser import step_where
from mofaface.training.processes import Processes
from mofaface.training.refined_loss import RefinedLoss
from mofaface.training.tally import Tally
from mofaface.training.truth_loss import TruthLoss


class Step:
    """The parts that an iteration moves, and the moving of them."""

    def __init__(
        self,
        config: TrainConfig,
        encoder: Encoder,
        terms: Callable[..., Terms],
        optimiser: torch.optim.Optimizer,
        average: AveragedModel,
        tally: Tally,
        processes: Processes,
        truth: TruthLoss | None = None,
        refined: RefinedLoss | None = None,
    ):
        """`truth` and `refined` are needed where the configuration gives true or refined codes a weight."""
        self.config, self.processes = config, processes
        self.encoder, self.terms = encoder, terms
        self.optimiser, self.average, self.tally = optimiser, average, tally
        self._truth, self._refined = truth, refined
        # Where reading a value costs nothing, a plain decision is the faster one.
        self._on_device: bool = optimiser.defaults["capturable"]

    def __call__(self, batch: Batch) -> None:
        """Learn from this process's part of a batch; unless its loss or gradient is no number, then nothing changes."""
        config = self.config
        self.encoder.train()
        statistics = Statistics(self.encoder.buffers())
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=config.bfloat16):
            code = self.encoder(batch.image)
        jaw = config.weights.contour * batch.contour_confidence
        places = torch.cat((batch.landmarks, batch.contour), 1)
        terms = self.terms(code, batch.image, places, torch.cat((batch.confidence, jaw), 1))
        loss = total(terms.photo, terms.land, code, config.weights).mean()
        if self._truth is not None:
            loss = loss + config.weights.truth * self._truth(code, batch.codes).mean()
        if self._refined is not None:
            loss = loss + config.weights.refined * self._refined(code, batch).mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        values = torch.stack(
            (loss.detach(), terms.photo.detach().mean(), *landmark_values(terms.places, batch))
        )
        # Parts are of one size, so that the mean of their means is the mean over the batch.
        self.processes.average([*self._gradients(), values])
        finite = torch.isfinite(self._clipped()) & (values[0] == values[0])
        step_where(self.optimiser, finite)
        if self._on_device or not finite:
            statistics.restore_unless(finite)
        if config.average and (self._on_device or finite):
            update_average(self.average, self.encoder, config.average, finite, self._on_device)
        self.tally.add(values, finite)

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.optimiser.param_groups for p in group["params"] if p.grad is not None]

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self._parameters() if p.grad is not None]

    def _clipped(self) -> Float[Tensor, ""]:
        """Clip the gradient where the recipe does; its norm before."""
        if self.config.optimiser.clip:
            return torch.nn.utils.clip_grad_norm_(self._parameters(), self.config.optimiser.clip)
        return torch.nn.utils.get_total_norm(self._gradients())


class Statistics:
    """What a forward pass may change in a network, kept so that it can be taken back."""

    def __init__(self, buffers: Iterable[Tensor]):
        # One tensor for each type: a network has a hundred buffers of a few numbers.
        self._buffers: dict[torch.dtype, list[Tensor]] = {}
        for buffer in buffers:
            self._buffers.setdefault(buffer.dtype, []).append(buffer)
        self._before = {dtype: _joined(group) for dtype, group in self._buffers.items()}

    @torch.no_grad()
    def restore_unless(self, finite: Bool[Tensor, ""]) -> None:
        """Put everything back where the flag is false."""
        for dtype, group in self._buffers.items():
            kept = torch.where(finite, _joined(group), self._before[dtype])
            parts = kept.split([buffer.numel() for buffer in group])
            torch._foreach_copy_(
                group, [part.view_as(buffer) for part, buffer in zip(parts, group, strict=True)]
            )


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@torch.no_grad()
def update_average(
    average: AveragedModel, encoder: Encoder, decay: float, finite: Bool[Tensor, ""], on_device: bool
) -> None:
    """Move a running average to the encoder's weights and statistics where the flag is true; the first time, all the way.

    AveragedModel's own update asks whether it is the first; `on_device` nothing is asked.
    """
    share = torch.full_like(finite, 1 - decay, dtype=torch.float32)
    share.masked_fill_(average.n_averaged == 0, 1).masked_fill_(~finite, 0)
    olds, news = [], []
    for old, new in zip(_tensors(average.module), _tensors(encoder), strict=True):
        if old.is_floating_point():
            olds.append(old)
            news.append(new)
        else:
            old.copy_(torch.where(finite, new, old))
    if on_device:
        towards = torch._foreach_sub(news, olds)
        torch._foreach_mul_(towards, share)
        torch._foreach_add_(olds, towards)
    else:
        torch._foreach_lerp_(olds, news, share.item())
    average.n_averaged += finite


def _tensors(module: torch.nn.Module) -> list[Tensor]:
    return [*(p.detach() for p in module.parameters()), *module.buffers()]


def landmark_values(
    places: Float[Tensor, "batch points 2"], batch: Batch
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """E_land of the 46 landmarks and their mean distance in pixels, means over the batch."""
    difference = places[:, : batch.landmarks.shape[1]] - batch.landmarks
    square = ((difference / batch.image.shape[-1]) ** 2).sum(-1)
    return (batch.confidence * square).sum(-1).mean(), difference.norm(dim=-1).mean()
