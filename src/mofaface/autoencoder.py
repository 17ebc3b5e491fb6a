"""The autoencoder of figure 1: an encoder that reads a code and a decoder that shows what the code says."""

from jaxtyping import Float
from torch import Tensor, nn

from mofaface.code import Code
from mofaface.decoder import Decoder, Face


class Autoencoder(nn.Module):
    """Encoder and decoder joined; both are passed in."""

    def __init__(self, encoder: nn.Module, decoder: Decoder, refine: int = 0):
        """`refine` is how many steps of a Refiner its weights shall be followed by; nothing here takes them."""
        super().__init__()
        self.refine = refine
        self.encoder = encoder
        self.decoder = decoder

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[Code, Face]:
        """The codes of a batch of crops (RGB in [0, 1]) and the faces they stand for."""
        code = self.encoder(image)
        return code, self.decoder(code)
