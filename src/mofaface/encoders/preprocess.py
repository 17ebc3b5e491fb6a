"""What a pretrained network expects at its input, and the module that turns a crop into it.

Callers hand every encoder the same crops, RGB in [0,1]; size, channel order and normalisation are the
network's own business. The resize is a pure scale (pixel centres at +0.5, corners fixed), so a place in
the crop and a place in the network's input differ by a factor and nothing else.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class InputFormat:
    """The picture a network was trained on: (crop - mean) / std, in its own size and channel order."""

    size: int
    "Width and height in pixels."
    mean: Triple
    "Subtracted from the values in [0,1]; in the network's channel order."
    std: Triple
    "Divides what remains; in the network's channel order."
    bgr: bool = False
    "Whether the network's first channel is blue, as in Caffe."


def caffe_format(size: int, mean: Triple, bgr: bool) -> InputFormat:
    """The format of a network that takes 0..255 minus a mean in 0..255 and is not scaled otherwise."""
    return InputFormat(size, (mean[0] / 255, mean[1] / 255, mean[2] / 255), (1 / 255,) * 3, bgr)


def resize(images: Float[Tensor, "batch 3 _ _"], size: int) -> Float[Tensor, "batch 3 {size} {size}"]:
    """The images at `size` pixels by a pure scale, filtered against aliasing when they shrink."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True)


class Preprocess(nn.Module):
    """Crops in RGB, [0,1] → the input of one network."""

    mean: Tensor
    std: Tensor

    def __init__(self, format: InputFormat):
        super().__init__()
        self.format = format
        # Not persistent: these are constants of the architecture, and checkpoints hold only what was learned.
        self.register_buffer("mean", torch.tensor(format.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(format.std).view(3, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch 3 size size"]:
        scaled = resize(images, self.format.size)
        ordered = scaled.flip(1) if self.format.bgr else scaled
        return (ordered - self.mean) / self.std
