"""The one place that knows which encoders exist and with which numbers they are built."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mofaface.code import CodeLayout
from mofaface.encoders.alexnet import AlexNet
from mofaface.encoders.backbone import Backbone
from mofaface.encoders.efficientnet import EfficientNetLite2
from mofaface.encoders.encoder import Encoder
from mofaface.encoders.head import CodeGains, CodeHead
from mofaface.encoders.inverted_residuals import Readout
from mofaface.encoders.mobilenet import MobileNetV2
from mofaface.encoders.vgg import VGG16
from mofaface.encoders.weights import load_pretrained

EncoderName = Literal["mobilenet", "efficientnet", "alexnet", "vgg"]


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and how it is built."""

    backbone: EncoderName = "mobilenet"
    "The small default, EfficientNet-Lite2, which is twice as large, or one of the paper's two networks."
    input_size: int = 160
    "Pixels the first two see of the crop's 240; the paper's networks have their own sizes (227 and 224)."
    readout: Readout = "grid"
    "The first two: keep the places of the features, the same without the layer that widens for a classifier, or average."
    freeze_norm: bool = False
    "The first two: keep the pretrained batch statistics while training."
    frozen_blocks: int = 0
    "The first two: how many of their 19 or 23 blocks (narrow: one fewer), from the image on, keep pretrained weights."
    living_norm: int = 0
    "The first two: how many of the last blocks learn batch statistics although freeze_norm fixes all, or channels die."
    dropout: float = 0.5
    "The paper's networks: share of fc6 and fc7 features dropped while training."
    gains: CodeGains = field(default_factory=CodeGains)
    "Units of the last layer."


def _build_backbone(config: EncoderConfig) -> Backbone:
    match config.backbone:
        case "mobilenet" | "efficientnet":
            network = MobileNetV2 if config.backbone == "mobilenet" else EfficientNetLite2
            return network(
                config.input_size,
                config.readout,
                freeze_norm=config.freeze_norm,
                frozen_blocks=config.frozen_blocks,
                living_norm=config.living_norm,
            )
        case "alexnet":
            return AlexNet(config.dropout)
        case "vgg":
            return VGG16(config.dropout)
        case other:
            raise ValueError(f"an encoder is 'mobilenet', 'efficientnet', 'alexnet' or 'vgg', not {other!r}")


def build_encoder(
    encoder: EncoderName | EncoderConfig, layout: CodeLayout, pretrained: str | Path | None = None
) -> Encoder:
    """A new encoder that predicts the zero code for every image; `pretrained` is a file for its backbone."""
    config = EncoderConfig(backbone=encoder) if isinstance(encoder, str) else encoder
    backbone = _build_backbone(config)
    if pretrained is not None:
        load_pretrained(backbone, pretrained)
    return Encoder(backbone, CodeHead(backbone.out_features, layout, config.gains))
