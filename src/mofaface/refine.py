"""A network's answer, taken some steps further by the fit's optimiser.

Reflectance, light and the details of shape get closer to the photograph than one pass of a network gets. Pixels alone
would let the geometry slide to explain hair or shadows, so the 46 landmarks are held where the network saw them.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.fit import FitConfig, Fitter, Stage
from mofaface.geometry import landmark_places
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights

# The default recipe's, but for the landmarks, which are the network's own: four times as much keeps them in place.
WEIGHTS = LossWeights(land=10.0, reg=1e-4, beta=0.4, light=0.12)


class Refiner:
    """Takes codes a number of damped Gauss–Newton steps further, each photograph alone."""

    def __init__(self, decoder: Decoder, steps: int, weights: LossWeights = WEIGHTS):
        """Raises ValueError for fewer than one step."""
        if steps < 1:
            raise ValueError(f"a code is refined by one step or more, got {steps}")
        self.weights, self.steps = weights, steps
        self._fitter = Fitter(decoder)
        self._config = FitConfig(landmark_stages=(), stages=(Stage(coarse=False, iterations=steps),))

    def __call__(self, code: Code, image: Float[Tensor, "batch 3 height width"]) -> Code:
        """The refined codes; a photograph whose energy no step lowers keeps its own."""
        decoder = self._fitter.decoder
        layout, packed = decoder.model.layout, decoder.model.layout.pack(code)
        held = landmark_places(decoder.model, decoder.camera, code)[:, list(LANDMARKS_46)].to(image)
        rows = []
        for i in range(len(image)):
            one = slice(i, i + 1)
            start = layout.unpack(packed[one])
            found = self._fitter(image[one], self.weights, held[one], start=start, config=self._config)
            rows.append(layout.pack(found.code))
        return layout.unpack(torch.cat(rows))
