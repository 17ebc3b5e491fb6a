"""Encoder and decoder joined: the code of the one is what the other shows."""

import torch
from little_face import LITTLE, little_model
from torch import nn

from mofaface.autoencoder import Autoencoder
from mofaface.code import Code
from mofaface.decoder import Decoder


class Linear(nn.Module):
    """An encoder that is a linear map of the picture's mean colour."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.map = nn.Linear(3, LITTLE.size).double()

    def forward(self, image: torch.Tensor) -> Code:
        return LITTLE.unpack(0.1 * self.map(image.mean((-2, -1))))


def test_face_is_the_decoders_for_the_encoders_code(decoder):
    encoder = Linear()
    image = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    code, face = Autoencoder(encoder, decoder)(image)
    for name, part in vars(encoder(image)).items():
        torch.testing.assert_close(getattr(code, name), part, rtol=0, atol=0)
    for name, part in vars(decoder(code)).items():
        torch.testing.assert_close(getattr(face, name), part, rtol=0, atol=0)


def test_what_the_face_shows_reaches_every_parameter_of_the_encoder(decoder):
    autoencoder = Autoencoder(Linear(), decoder)
    _, face = autoencoder(torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64))
    (face.colour.sum() + face.uv_crop.sum()).backward()
    for parameter in autoencoder.parameters():
        assert parameter.grad is not None and parameter.grad.any(-1 if parameter.dim() > 1 else 0).all()


def test_nothing_but_the_encoder_learns_and_is_saved():
    autoencoder = Autoencoder(Linear(), Decoder(little_model()))
    names = {"encoder.map.weight", "encoder.map.bias"}
    assert set(autoencoder.state_dict()) == names
    assert {name for name, _ in autoencoder.named_parameters()} == names
