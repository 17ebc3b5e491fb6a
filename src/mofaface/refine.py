"""A network's answer, taken some steps further: all photographs of a batch together.

Reflectance, light and the details of shape get closer to the photograph than one pass of a network gets. Pixels alone
would let the geometry slide to explain hair or shadows, so the 46 landmarks are held where the network saw them, or
where they are given.

The steps are those of gradient descent with momentum ("heavy ball", Polyak 1964) under a metric. The gradient is the
loss' own, of all vertices; the metric is the damped Gauss–Newton matrix of a sample of them, which costs several times
as much as a gradient and serves several steps.
"""

from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.engines import one_thread
from mofaface.fit_energy import Landmarks, Problem, Tools
from mofaface.geometry import landmark_places
from mofaface.landmarks import LANDMARKS_46
from mofaface.losses import LossWeights, total

# The default recipe's, but for the landmarks, which are the network's own: some more keeps them in place.
WEIGHTS = LossWeights(land=4.0, reg=1e-4, beta=0.4, light=0.12)
# Vertices that a matrix is made from, the share of its diagonal that is added to it, and the steps it serves.
SAMPLE, DAMPING, SERVES = 768, 0.01, 6
# Length of a step, and how much of the one before goes on (docs/inference.md says what else was tried).
LENGTH, MOMENTUM = 1.0, 0.5
# A photograph whose energy has risen goes back to its best code, and on with shorter steps until the next matrix.
SHORTER = 0.5


class Refiner:
    """Takes codes a number of steps further."""

    def __init__(
        self, decoder: Decoder, steps: int, weights: LossWeights = WEIGHTS, damping: float = DAMPING
    ):
        """`damping` is the share of the matrix' diagonal that is added to it.

        The model is laid out anew, on its device: move it before. Raises ValueError for fewer than one step.
        """
        if steps < 1:
            raise ValueError(f"a code is refined by one step or more, got {steps}")
        self.weights, self.steps, self._damping = weights, steps, damping
        if decoder.model.mean_shape.device.type == "mps":
            # Apple's GPUs have no float64, which the matrices are summed in.
            decoder = deepcopy(decoder).cpu()
        self._tools = Tools(decoder)
        self._layout = decoder.model.layout
        # Its device and precision are those of the computation.
        self._like = decoder.model.mean_shape

    @torch.no_grad()
    def __call__(
        self, code: Code, image: Float[Tensor, "batch 3 height width"], landmarks: Landmarks | None = None
    ) -> Code:
        """The codes of least energy on the way; a photograph whose energy no step lowers keeps its own.

        Where there are no `landmarks`, or none of any confidence, those that the code shows are held.
        """
        given = self._layout.pack(code)
        if not len(given):
            return code
        # Gradients are taken here, also where the caller's inference mode would not have them.
        with torch.inference_mode(False):
            x, picture = (t.clone().to(self._like) for t in (given, image))
            refined = self._descend(x, picture, self._held(x, landmarks))
        return self._layout.unpack(refined.to(given))

    def _descend(
        self, x: Float[Tensor, "batch size"], image: Tensor, landmarks: Landmarks
    ) -> Float[Tensor, "batch size"]:
        """The codes of least energy on the way from x."""
        best, E_best, g_best = x, torch.full_like(x[:, 0], torch.inf), torch.zeros_like(x)
        moving, length = torch.zeros_like(x), torch.full_like(x[:, :1], LENGTH)
        factor = self._metric(x, image, landmarks)
        for step in range(self.steps + 1):
            E, g = self._slope(x, image, landmarks)
            lower = (E < E_best)[:, None]
            length = torch.where(lower, length, SHORTER * length)
            best, E_best = torch.where(lower, x, best), torch.where(lower[:, 0], E, E_best)
            g_best, moving = torch.where(lower, g, g_best), torch.where(lower, moving, 0.0)
            if step == self.steps:
                break
            if step and step % SERVES == 0:
                factor = self._metric(best, image, landmarks)
                length = torch.full_like(length, LENGTH)
            with one_thread():
                down = torch.cholesky_solve(g_best[..., None], factor)[..., 0]
            moving = MOMENTUM * moving - length * down
            x = best + moving
        return best

    def _held(self, x: Float[Tensor, "batch size"], given: Landmarks | None) -> Landmarks:
        """The landmarks that are given, and the code's own where there are none."""
        decoder = self._tools.decoder
        seen = landmark_places(decoder.model, decoder.camera, self._layout.unpack(x))
        places = seen[:, list(LANDMARKS_46)].to(x)
        own = Landmarks(places, torch.ones_like(places[..., 0]))
        if given is None:
            return own
        places, confidence = given.places.to(x), given.confidence.to(x)
        known = (confidence > 0).any(1, keepdim=True)
        return Landmarks(
            torch.where(known[..., None], places, own.places), torch.where(known, confidence, own.confidence)
        )

    def _slope(
        self, x: Float[Tensor, "batch size"], image: Tensor, landmarks: Landmarks
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch size"]]:
        """E_loss of each photograph, and its gradient."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            code = self._layout.unpack(x)
            terms = self._tools.terms(code, image, landmarks.places, landmarks.confidence)
            E = total(terms.photo, terms.land, code, self.weights)
            (g,) = torch.autograd.grad(E.sum(), x)
        return E.detach(), g

    def _metric(
        self, x: Float[Tensor, "batch size"], image: Tensor, landmarks: Landmarks
    ) -> Float[Tensor, "batch size size"]:
        """The Cholesky factor of each photograph's damped Gauss–Newton matrix."""
        matrices = []
        for i in range(len(x)):
            one = slice(i, i + 1)
            held = Landmarks(landmarks.places[one], landmarks.confidence[one])
            problem = Problem(image[one], self._tools, self.weights, held, sample=SAMPLE)
            matrices.append(problem.matrix(x[i]))
        H = torch.stack(matrices)
        H = H + self._damping * torch.diag_embed(H.diagonal(dim1=1, dim2=2))
        factor, failed = torch.linalg.cholesky_ex(H)
        # Where there is no matrix, as of a code that is no number, the steps are no numbers and the code stays.
        return torch.where((failed != 0)[:, None, None], torch.nan, factor).to(x)
