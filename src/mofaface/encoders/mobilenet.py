"""MobileNetV2 (Sandler et al. 2018) with torchvision's names, read out with its spatial layout kept.

Averaging over the picture, as the classifier does, throws away where things are. Pose, shape and landmarks
need exactly that, so the default readout keeps the last feature map: 1280 channels are reduced to a few
per cell, the grid is flattened, and the averages are appended.
"""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.backbone import Backbone
from mofaface.encoders.preprocess import InputFormat

Readout = Literal["grid", "average"]
IMAGENET_MEAN_RGB = (0.485, 0.456, 0.406)
IMAGENET_STD_RGB = (0.229, 0.224, 0.225)
# (expansion, channels, blocks, first stride), table 2 of the MobileNetV2 paper.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STRIDE = 32
LAST_CHANNELS = 1280


def _normalised(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d, x: Float[Tensor, "batch _ _ _"]
) -> Float[Tensor, "batch _ _ _"]:
    """norm(convolution(x)); with fixed statistics both are one convolution."""
    if norm.training:
        return norm(convolution(x))
    # Scaling the few weights in place of the many activations: a third of a training step on a CPU, measured.
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = convolution.weight * scale.view(-1, 1, 1, 1)
    bias = norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, convolution.stride, convolution.padding, groups=convolution.groups)


class ConvNorm(nn.Sequential):
    """Convolution (0), batch normalisation (1), ReLU6."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1):
        convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(after))

    def forward(self, x: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _ _"]:
        return F.relu6(_normalised(self[0], self[1], x), inplace=True)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes agree."""

    def __init__(self, before: int, after: int, stride: int, expansion: int):
        super().__init__()
        hidden = before * expansion
        self.adds_input = stride == 1 and before == after
        expand = [ConvNorm(before, hidden, 1)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.conv = nn.Sequential(*expand, ConvNorm(hidden, hidden, 3, stride, groups=hidden), *project)

    def forward(self, x: Float[Tensor, "batch before _ _"]) -> Float[Tensor, "batch after _ _"]:
        hidden = self.conv[:-2](x)
        projected = _normalised(self.conv[-2], self.conv[-1], hidden)
        return x + projected if self.adds_input else projected


def _features() -> nn.Sequential:
    """The convolutional part, indexed as in torchvision: features.0 … features.18."""
    layers: list[nn.Module] = [ConvNorm(3, 32, 3, stride=2)]
    before = 32
    for expansion, channels, blocks, first_stride in STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(before, channels, first_stride if block == 0 else 1, expansion))
            before = channels
    return nn.Sequential(*layers, ConvNorm(before, LAST_CHANNELS, 1))


class MobileNetV2(Backbone):
    """Crops → `readout_channels` features per cell of the last map and, after them, the 1280 averages."""

    name: ClassVar[str] = "mobilenet"

    def __init__(
        self,
        input_size: int = 160,
        readout: Readout = "grid",
        readout_channels: int = 96,
        freeze_norm: bool = False,
        frozen_blocks: int = 0,
    ):
        """`freeze_norm` fixes the batch statistics; the first `frozen_blocks` (of 19) learn nothing at all."""
        super().__init__(InputFormat(input_size, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB))
        self.features = _features()
        self.freeze_norm = freeze_norm
        self.frozen_blocks = frozen_blocks
        self.features[:frozen_blocks].requires_grad_(False)
        self.out_features = LAST_CHANNELS
        if readout == "grid":
            cells = -(-input_size // STRIDE)
            reduce = nn.Conv2d(LAST_CHANNELS, readout_channels, 1)
            self.readout = nn.Sequential(OrderedDict(reduce=reduce, flatten=nn.Flatten()))
            self.out_features += readout_channels * cells**2

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        prepared = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        return self.read_out(self.features(prepared))

    def read_out(self, last_map: Float[Tensor, "batch 1280 _ _"]) -> Float[Tensor, "batch features"]:
        """The features in the last map: what each cell has, if the readout is a grid, and the averages."""
        averages = last_map.mean(dim=(2, 3))
        if not hasattr(self, "readout"):
            return averages
        return torch.cat([self.readout(last_map), averages], dim=1)

    def train(self, mode: bool = True) -> "MobileNetV2":
        super().train(mode)
        fixed = self.features if self.freeze_norm else self.features[: self.frozen_blocks]
        for module in fixed.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
