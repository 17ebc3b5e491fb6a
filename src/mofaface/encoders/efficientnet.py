"""EfficientNet-Lite2 (Tan and Le 2019; its Lite edition of 2020), the larger backbone.

The scaling of the paper, width 1.1 and depth 1.2, of its base network without squeezing and with ReLU6. TensorFlow pads
one side more than the other where the size is halved; here both sides are padded alike, which fine-tuning evens out.
"""

from typing import ClassVar

from mofaface.encoders.inverted_residuals import InvertedResiduals, Plan


class EfficientNetLite2(InvertedResiduals):
    """4.4 million weights without the layer that widens and the classifier."""

    name: ClassVar[str] = "efficientnet"
    plan: ClassVar[Plan] = Plan(
        stages=(
            (1, 16, 1, 1, 3),
            (6, 24, 3, 2, 3),
            (6, 48, 3, 2, 5),
            (6, 88, 4, 2, 3),
            (6, 120, 4, 1, 5),
            (6, 208, 5, 2, 5),
            (6, 352, 1, 1, 3),
        ),
        middle=16,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        eps=1e-3,
    )
