"""MobileNetV2 (Sandler et al. 2018) with torchvision's state-dict names, read out with its spatial layout kept.

Averaging over the picture, as the classifier does, throws away where things are. Pose, shape and landmarks need
exactly that, so the default readout keeps the last feature map: 1280 channels are reduced to a few per cell, the
grid is flattened, and the averages are appended.
"""

from collections import OrderedDict
from typing import ClassVar, Literal

import torch
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


def _conv_norm(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    convolution = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes agree."""

    def __init__(self, before: int, after: int, stride: int, expansion: int):
        super().__init__()
        hidden = before * expansion
        self.adds_input = stride == 1 and before == after
        expand = [_conv_norm(before, hidden, 1)] if expansion != 1 else []
        project = [nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.conv = nn.Sequential(*expand, _conv_norm(hidden, hidden, 3, stride, groups=hidden), *project)

    def forward(self, x: Float[Tensor, "batch before _ _"]) -> Float[Tensor, "batch after _ _"]:
        return x + self.conv(x) if self.adds_input else self.conv(x)


def _features() -> nn.Sequential:
    """The convolutional part, indexed as in torchvision: features.0 … features.18."""
    layers: list[nn.Module] = [_conv_norm(3, 32, 3, stride=2)]
    before = 32
    for expansion, channels, blocks, first_stride in STAGES:
        for block in range(blocks):
            layers.append(InvertedResidual(before, channels, first_stride if block == 0 else 1, expansion))
            before = channels
    return nn.Sequential(*layers, _conv_norm(before, LAST_CHANNELS, 1))


class MobileNetV2(Backbone):
    """Crops → `readout_channels` features per cell of the last map and, after them, the 1280 averages."""

    name: ClassVar[str] = "mobilenet"

    def __init__(
        self,
        input_size: int = 160,
        readout: Readout = "grid",
        readout_channels: int = 96,
        freeze_norm: bool = False,
    ):
        """`freeze_norm` keeps the pretrained batch statistics in training, which is safe with small batches."""
        super().__init__(InputFormat(input_size, IMAGENET_MEAN_RGB, IMAGENET_STD_RGB))
        self.features = _features()
        self.freeze_norm = freeze_norm
        self.out_features = LAST_CHANNELS
        if readout == "grid":
            cells = -(-input_size // STRIDE)
            reduce = nn.Conv2d(LAST_CHANNELS, readout_channels, 1)
            self.readout = nn.Sequential(OrderedDict(reduce=reduce, flatten=nn.Flatten()))
            self.out_features += readout_channels * cells**2

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        last_map = self.features(self.preprocess(images).contiguous(memory_format=torch.channels_last))
        averages = last_map.mean(dim=(2, 3))
        if not hasattr(self, "readout"):
            return averages
        return torch.cat([self.readout(last_map), averages], dim=1)

    def train(self, mode: bool = True) -> "MobileNetV2":
        super().train(mode)
        if self.freeze_norm:
            for module in self.features.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self
