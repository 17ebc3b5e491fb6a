"""Convolutional encoders: a crop in, a code out."""

from mofaface.encoders.build import EncoderConfig, EncoderName, build_encoder
from mofaface.encoders.encoder import Encoder
from mofaface.encoders.head import CodeGains, CodeHead
from mofaface.encoders.weights import WeightsError, load_pretrained

__all__ = [
    "CodeGains",
    "CodeHead",
    "Encoder",
    "EncoderConfig",
    "EncoderName",
    "WeightsError",
    "build_encoder",
    "load_pretrained",
]
