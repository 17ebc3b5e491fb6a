"""VGG-16 with the layer names and the input of VGG-Face (Parkhi et al. 2015), up to fc7.

VGG-Face was trained on RGB pictures; its Caffe edition has the channels of the first layer reversed, which
`weights.load_pretrained` undoes.
"""

from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mofaface.encoders.backbone import Backbone
from mofaface.encoders.preprocess import caffe_format

# The mean face picture's colour that VGG-Face subtracts: red, green, blue.
VGG_FACE_MEAN_RGB = (129.1863, 104.7624, 93.5940)
# (channels, number of convolutions) of the five blocks, each followed by 2×2 max pooling.
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


class VGG16(Backbone):
    """Crops → the 4096 features of VGG-Face's fc7."""

    name: ClassVar[str] = "vgg"

    def __init__(self, dropout: float = 0.5, shrink: int = 1):
        """`shrink` divides every channel count; it exists to make small networks for tests."""
        super().__init__(caffe_format(224, VGG_FACE_MEAN_RGB, bgr=False))
        before = 3
        for block, (channels, convolutions) in enumerate(BLOCKS, start=1):
            for index in range(1, convolutions + 1):
                self.add_module(f"conv{block}_{index}", nn.Conv2d(before, channels // shrink, 3, padding=1))
                before = channels // shrink
        self.out_features = 4096 // shrink
        self.fc6 = nn.Linear(before * 7 * 7, self.out_features)
        self.fc7 = nn.Linear(self.out_features, self.out_features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Float[Tensor, "batch 3 _ _"]) -> Float[Tensor, "batch features"]:
        x = self.preprocess(images)
        for block, (_, convolutions) in enumerate(BLOCKS, start=1):
            for index in range(1, convolutions + 1):
                x = F.relu(self.get_submodule(f"conv{block}_{index}")(x))
            x = F.max_pool2d(x, kernel_size=2, stride=2, ceil_mode=True)
        x = self.dropout(F.relu(self.fc6(x.flatten(1))))
        return self.dropout(F.relu(self.fc7(x)))
