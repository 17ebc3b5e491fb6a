"""The one place that knows which encoders exist and with which numbers they are built."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mofaface.code import CodeLayout
from mofaface.encoders.alexnet import AlexNet
from mofaface.encoders.backbone import Backbone
from mofaface.encoders.encoder import Encoder
from mofaface.encoders.head import CodeGains, CodeHead
from mofaface.encoders.mobilenet import MobileNetV2, Readout
from mofaface.encoders.vgg import VGG16
from mofaface.encoders.weights import load_pretrained

EncoderName = Literal["mobilenet", "alexnet", "vgg"]


@dataclass(frozen=True)
class EncoderConfig:
    """Which encoder, and how it is built."""

    backbone: EncoderName = "mobilenet"
    "The small default, or one of the paper's two networks."
    input_size: int = 160
    "Pixels MobileNet sees of the crop's 240; the paper's networks have their own sizes (227 and 224)."
    readout: Readout = "grid"
    "MobileNet: keep the places of the features, the same without the layer that widens for a classifier, or average."
    freeze_norm: bool = False
    "MobileNet: keep the pretrained batch statistics while training."
    frozen_blocks: int = 0
    "MobileNet: how many of its 19 blocks, from the image on, keep their pretrained weights."
    living_norm: int = 0
    "MobileNet: how many of its last blocks learn batch statistics although freeze_norm fixes all; else their channels die."
    dropout: float = 0.5
    "The paper's networks: share of fc6 and fc7 features dropped while training."
    gains: CodeGains = field(default_factory=CodeGains)
    "Units of the last layer."


def _build_backbone(config: EncoderConfig) -> Backbone:
    match config.backbone:
        case "mobilenet":
            return MobileNetV2(
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
            raise ValueError(f"an encoder is 'mobilenet', 'alexnet' or 'vgg', not {other!r}")


def build_encoder(
    encoder: EncoderName | EncoderConfig, layout: CodeLayout, pretrained: str | Path | None = None
) -> Encoder:
    """A new encoder that predicts the zero code for every image; `pretrained` is a file for its backbone."""
    config = EncoderConfig(backbone=encoder) if isinstance(encoder, str) else encoder
    backbone = _build_backbone(config)
    if pretrained is not None:
        load_pretrained(backbone, pretrained)
    return Encoder(backbone, CodeHead(backbone.out_features, layout, config.gains))
