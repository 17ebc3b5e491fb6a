"""The distance of predicted codes from the true ones of rendered faces.

Not in coefficients, whose weight for what is seen differs a thousandfold, but in what they make: places, skin, light.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.rotation import rotation_matrix

# One vertex in so many is compared: neighbours tell nearly the same.
EVERY = 8
# Differences that cost 1: of a place, mm, of reflectance and of a white surface's shading.
PLACE, COLOUR, SHADING = 10.0, 0.1, 0.1


class TruthLoss:
    """Mean squares over the frontal vertices of the differences of places, reflectance and light."""

    def __init__(self, decoder: Decoder):
        model = decoder.model
        rows = model.frontal.nonzero()[::EVERY, 0]
        self._layout = model.layout
        self._mean = model.mean_shape[rows]
        self._bases = torch.cat((model.shape_basis[rows], model.expression_basis[rows]), -1)
        self._reflectance = model.reflectance_basis[rows]

    def __call__(self, code: Code, truth: Float[Tensor, "batch size"]) -> Float[Tensor, "batch"]:
        """One value for each picture; the place of the whole face is left to the landmarks."""
        true = self._layout.unpack(truth)
        place = ((self._centred(code) - self._centred(true)) ** 2).sum(-1).mean(-1)
        reflectance = torch.einsum("vcm,bm->bvc", self._reflectance, code.beta - true.beta)
        # The harmonics are orthonormal, up to the factor that makes the first one 1.
        light = ((code.gamma - true.gamma) ** 2).sum(1).mean(-1)
        colour = (reflectance**2).mean((1, 2))
        return place / PLACE**2 + colour / COLOUR**2 + light / SHADING**2

    def _centred(self, code: Code) -> Float[Tensor, "batch rows 3"]:
        """The compared vertices around their middle, turned as the camera sees them, mm; camera axes change no length."""
        coefficients = torch.cat((code.alpha, code.delta), -1)
        x = self._mean + torch.einsum("vcm,bm->bvc", self._bases, coefficients)
        return (x - x.mean(1, keepdim=True)) @ rotation_matrix(code.rotation)
