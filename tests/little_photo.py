"""Photos of a little face whose detection is known, and a reconstructor that answers with a chosen code."""

import numpy as np
import torch
from little_face import random_code
from torch import nn

from mofaface.autoencoder import Autoencoder
from mofaface.code import Code
from mofaface.crop import Box
from mofaface.decoder import Decoder
from mofaface.face_model import FaceModel
from mofaface.photo import Photo
from mofaface.reconstruct import Reconstructor

BOXES = (Box(150.0, 90.0, 200.0, 240.0), Box(400.0, 60.0, 90.0, 120.0))


class Oracle(nn.Module):
    """An encoder that says the same code for every crop."""

    def __init__(self, code: Code):
        super().__init__()
        self.code = code
        self.anything = nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> Code:
        return Code(**{k: v.expand(len(image), *v.shape[1:]) for k, v in vars(self.code).items()})


def little_reconstructor(model: FaceModel, seed: int = 3) -> Reconstructor:
    """A reconstructor that finds an ordinary turned, moved and lit face in every box."""
    code = random_code(model.layout, seed)
    code = Code(**{name: part.to(model.mean_shape.dtype) for name, part in vars(code).items()})
    return Reconstructor(Autoencoder(Oracle(code), Decoder(model)), "yunet", "oracle")


def noisy_photo(height: int = 480, width: int = 640, name: str = "holiday.jpg") -> Photo:
    """A photo in which there is nothing."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return Photo(pixels, name)
