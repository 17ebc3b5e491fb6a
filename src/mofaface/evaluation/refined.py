"""A network's answer, taken some steps further by the fit's optimiser: what a single pass leaves on the table."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.fit import FitConfig, Fitter, Stage
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights


class Refiner:
    """Takes codes a number of damped Gauss–Newton steps further, each photograph alone."""

    def __init__(self, decoder: Decoder, steps: int, weights: LossWeights, landmarks: bool = False):
        """`landmarks` counts the given ones with their weight; without, the photograph and the priors alone."""
        self.layout = decoder.model.layout
        self.landmarks = landmarks
        self.weights = replace(weights, land=weights.land if landmarks else 0.0, contour=0.0)
        self.config = FitConfig(landmark_stages=(), stages=(Stage(coarse=False, iterations=steps),))
        self._fitter = Fitter(decoder)

    def __call__(
        self,
        code: Code,
        image: Float[Tensor, "batch 3 height width"],
        places: Float[Tensor, "batch 68 2"],
    ) -> Code:
        """The refined codes; a photograph whose energy no step lowers keeps its own."""
        packed = self.layout.pack(code)
        given = places[:, list(LANDMARKS_46)] if self.landmarks else None
        rows = []
        for i in range(len(image)):
            one = slice(i, i + 1)
            marks = None if given is None else given[one]
            start = self.layout.unpack(packed[one])
            found = self._fitter(image[one], self.weights, marks, start=start, config=self.config)
            rows.append(self.layout.pack(found.code))
        return self.layout.unpack(torch.cat(rows))
