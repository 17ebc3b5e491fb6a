"""CaffeNet: the AlexNet that Caffe distributes as `bvlc_reference_caffenet`, up to fc7.

It differs from the AlexNet of Krizhevsky et al. in that pooling comes before normalisation, and from
torchvision's `alexnet` in its channel counts, groups and normalisation. Layer names are Caffe's, so
weights map one to one.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.backbone import Backbone
from mofaface.encoders.preprocess import caffe_format

# The mean over ILSVRC 2012 that comes with Caffe, averaged over the picture: blue, green, red.
IMAGENET_MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)


def _normalise(x: Float[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
    """x / (1 + 1e-4 / 5 · sum of x² over 5 neighbouring channels)^0.75, Caffe's LRN."""
    return F.local_response_norm(x, size=5, alpha=1e-4, beta=0.75, k=1.0)


def _pool(x: Float[Tensor, "batch c _ _"]) -> Float[Tensor, "batch c _ _"]:
    """Maxima of overlapping 3×3 windows; Caffe rounds the output size up."""
    return F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)


class AlexNet(Backbone):
    """Crops → the 4096 features of CaffeNet's fc7."""

    name: ClassVar[str] = "alexnet"

    def __init__(self, dropout: float = 0.5, shrink: int = 1):
        """`shrink` divides every channel count; it exists to make small networks for tests."""
        super().__init__(caffe_format(227, IMAGENET_MEAN_BGR, bgr=True))
        c1, c2, c3, c5, full = (width // shrink for width in (96, 256, 384, 256, 4096))
        self.conv1 = nn.Conv2d(3, c1, 11, stride=4)
        self.conv2 = nn.Conv2d(c1, c2, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.conv4 = nn.Conv2d(c3, c3, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(c3, c5, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(c5 * 6 * 6, full)
        self.fc7 = nn.Linear(full, full)
        self.dropout = nn.Dropout(dropout)
        self.out_features = full

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        x = self.preprocess(images)
        x = _normalise(_pool(F.relu(self.conv1(x))))
        x = _normalise(_pool(F.relu(self.conv2(x))))
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = _pool(F.relu(self.conv5(x)))
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        return self.dropout(F.relu(self.fc7(x)))
