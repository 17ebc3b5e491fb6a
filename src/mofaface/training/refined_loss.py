"""The distance of an answer from where the refiner takes it: fitting in the loop (SPIN, Kolotouros et al. 2019).

The gradient of the loss alone moves what the picture shows strongly, and hardly what it shows weakly or through much
else. Some steps under a metric know how far each coefficient has to go, and a network can learn their end as if it were
true.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.fit_energy import Landmarks
from mofaface.losses import LossWeights
from mofaface.refine import Refiner
from mofaface.training.batches import Batch

# Ten times the refiner's own damping: where the picture says little the steps stay short, and the teacher is calmer.
# More weight of landmarks than its own: here they are the photograph's, where the run believes them.
TEACHER_DAMPING, TEACHER_LAND = 0.1, 10.0


class RefinedLoss:
    """For one decoder and the units of one network's last layer."""

    def __init__(self, decoder: Decoder, units: Float[Tensor, "size"], weights: LossWeights, steps: int):
        """Of the `weights`, those of the landmarks are replaced. Raises ValueError for fewer than one step."""
        self._layout, self._units = decoder.model.layout, units
        self._believed = weights.land > 0
        own = replace(weights, land=TEACHER_LAND, contour=0.0)
        self._refiner = Refiner(decoder, steps, own, TEACHER_DAMPING)

    def __call__(self, code: Code, batch: Batch) -> Float[Tensor, "batch"]:
        """Mean square over the coefficients, in units. No gradient goes through the steps.

        Where the run believes no landmarks of a picture, the answer's own are held.
        """
        answer = self._layout.pack(code)
        landmarks = Landmarks(batch.landmarks, batch.confidence) if self._believed else None
        refined = self._refiner(self._layout.unpack(answer.detach()), batch.image, landmarks)
        return (((answer - self._layout.pack(refined)) / self._units) ** 2).mean(-1)
