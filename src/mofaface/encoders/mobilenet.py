"""MobileNetV2 (Sandler et al. 2018), the default backbone, with torchvision's names and input."""

from typing import ClassVar

from mofaface.encoders.inverted_residuals import InvertedResiduals, Plan


class MobileNetV2(InvertedResiduals):
    """2.2 million weights without its classifier; table 2 of the paper."""

    name: ClassVar[str] = "mobilenet"
    plan: ClassVar[Plan] = Plan(
        stages=(
            (1, 16, 1, 1, 3),
            (6, 24, 2, 2, 3),
            (6, 32, 3, 2, 3),
            (6, 64, 4, 2, 3),
            (6, 96, 3, 1, 3),
            (6, 160, 3, 2, 3),
            (6, 320, 1, 1, 3),
        ),
        middle=14,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
