"""Networks of inverted residuals (Sandler et al. 2018), read out with their spatial layout kept.

Averaging over the picture, as the classifier does, throws away where things are. Pose, shape and landmarks
need exactly that, so the default readout takes two maps whose cells it keeps apart: one from the middle of
the network, where places are sharpest, and the last one, which has seen most. Each is reduced to a few
channels per cell and flattened; the averages follow. docs/encoders.md has the measurement. The narrow readout ends one
layer earlier: the last one widens a few hundred channels to 1280 for a classifier's thousand names.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.backbone import Backbone
from mofaface.encoders.preprocess import InputFormat

Readout = Literal["grid", "narrow", "average"]
# Both networks widen to so many channels at the end.
LAST_CHANNELS = 1280
MIDDLE_STRIDE, LAST_STRIDE = 16, 32


@dataclass(frozen=True)
class Plan:
    """What one network of this kind is made of."""

    stages: tuple[tuple[int, int, int, int, int], ...]
    """Expansion, channels, blocks, stride of the first, kernel: a row for each stage."""
    middle: int
    """Blocks, with the first convolution, until the end of the sixteenth of the size, where the middle map is read."""
    mean: tuple[float, float, float]
    """What is subtracted from RGB in [0, 1]."""
    std: tuple[float, float, float]
    """What divides the rest."""
    eps: float = 1e-5
    """Added to the variance of a batch."""

    @property
    def blocks(self) -> list[tuple[int, int, int, int]]:
        """Expansion, channels, stride and kernel of each block."""
        return [
            (expansion, channels, stride if block == 0 else 1, kernel)
            for expansion, channels, blocks, stride, kernel in self.stages
            for block in range(blocks)
        ]

    @property
    def middle_channels(self) -> int:
        """Channels of the middle map."""
        return self.blocks[self.middle - 2][1]

    @property
    def narrow_channels(self) -> int:
        """Channels before the layer that widens."""
        return self.stages[-1][1]


def _normalised(
    convolution: nn.Module, norm: nn.Module, x: Float[Tensor, "batch _ _ _"]
) -> Float[Tensor, "batch _ _ _"]:
    """norm(convolution(x)); with fixed statistics both are one convolution."""
    if norm.training:
        return norm(convolution(x))
    assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    # Scaling the few weights in place of the many activations: a third of a training step on a CPU, measured.
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    bias = norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, convolution.stride, convolution.padding, groups=convolution.groups)


class ConvNorm(nn.Sequential):
    """Convolution (0), batch normalisation (1), ReLU6."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, eps: float = 1e-5
    ):
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(after, eps))

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        return F.relu6(_normalised(self[0], self[1], x), inplace=True)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes agree."""

    def __init__(self, before: int, after: int, stride: int, expansion: int, kernel: int, eps: float):
        super().__init__()
        hidden = before * expansion
        self.adds_input = stride == 1 and before == after
        expand = [ConvNorm(before, hidden, 1, eps=eps)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after, eps)]
        depthwise = ConvNorm(hidden, hidden, kernel, stride, groups=hidden, eps=eps)
        self.conv = nn.Sequential(*expand, depthwise, *project)

    def forward(self, x: Float[Tensor, "batch before _ _"]) -> Float[Tensor, "batch after _ _"]:
        hidden = self.conv[:-2](x)
        projected = _normalised(self.conv[-2], self.conv[-1], hidden)
        return x + projected if self.adds_input else projected


def _features(plan: Plan, widened: bool) -> nn.Sequential:
    """The convolutional part: features.0, the blocks, and the layer that widens, if wanted; torchvision's names."""
    before = 32
    layers: list[nn.Module] = [ConvNorm(3, before, 3, stride=2, eps=plan.eps)]
    for expansion, channels, stride, kernel in plan.blocks:
        layers.append(InvertedResidual(before, channels, stride, expansion, kernel, plan.eps))
        before = channels
    return nn.Sequential(*layers, *([ConvNorm(before, LAST_CHANNELS, 1, eps=plan.eps)] if widened else []))


class GridReadout(nn.Module):
    """Two maps → their cells' features in a row; each map is reduced to a few channels first."""

    def __init__(self, input_size: int, middle_channels: int, last_channels: int, seen: tuple[int, int]):
        """`seen` is how many channels the middle and the last map have."""
        super().__init__()
        self.middle = nn.Conv2d(seen[0], middle_channels, 1)
        self.last = nn.Conv2d(seen[1], last_channels, 1)
        # Every stride of two rounds the size up.
        middle_cells, last_cells = -(-input_size // MIDDLE_STRIDE), -(-input_size // LAST_STRIDE)
        self.out_features = middle_channels * middle_cells**2 + last_channels * last_cells**2

    def forward(
        self, middle_map: Float[Tensor, "batch middle _ _"], last_map: Float[Tensor, "batch last _ _"]
    ) -> Float[Tensor, "batch features"]:
        return torch.cat([self.middle(middle_map).flatten(1), self.last(last_map).flatten(1)], dim=1)


class InvertedResiduals(Backbone):
    """Crops → what the readout keeps of each cell and, after it, the averages of the last map's channels."""

    plan: ClassVar[Plan]

    def __init__(
        self,
        input_size: int = 160,
        readout: Readout = "grid",
        readout_channels: tuple[int, int] = (32, 96),
        freeze_norm: bool = False,
        frozen_blocks: int = 0,
        living_norm: int = 0,
    ):
        """`freeze_norm` fixes the batch statistics, but for the last `living_norm` blocks; the first `frozen_blocks`
        learn nothing at all."""
        plan = self.plan
        super().__init__(InputFormat(input_size, plan.mean, plan.std))
        self.features = _features(plan, widened=readout != "narrow")
        self.freeze_norm = freeze_norm
        self.frozen_blocks = frozen_blocks
        self.living_norm = living_norm
        self.features[:frozen_blocks].requires_grad_(False)
        last = plan.narrow_channels if readout == "narrow" else LAST_CHANNELS
        seen = (plan.middle_channels, last)
        self.readout = None if readout == "average" else GridReadout(input_size, *readout_channels, seen)
        self.out_features = last + (self.readout.out_features if self.readout else 0)

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        prepared = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        middle_map = self.features[: self.plan.middle](prepared)
        last_map = self.features[self.plan.middle :](middle_map)
        averages = last_map.mean(dim=(2, 3))
        return (
            averages if self.readout is None else torch.cat([self.readout(middle_map, last_map), averages], 1)
        )

    def train(self, mode: bool = True) -> "InvertedResiduals":
        super().train(mode)
        count = len(self.features) - self.living_norm if self.freeze_norm else self.frozen_blocks
        fixed = self.features[:count]
        for module in fixed.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


@torch.no_grad()
def dead_channels(backbone: InvertedResiduals, images: Float[Tensor, "batch 3 _ _"]) -> dict[str, float]:
    """The share of channels that are zero everywhere in all images, after each rectifying layer: they say nothing and
    learn nothing."""
    found: dict[str, float] = {}
    hooks = []
    for name, layer in backbone.features.named_modules():
        if isinstance(layer, ConvNorm):

            def count(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
                found[name] = (output.amax((0, 2, 3)) == 0).float().mean().item()

            hooks.append(layer.register_forward_hook(count))
    try:
        backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found
