"""A network's answer, taken some steps further: all photographs of a batch together.

Reflectance, light and the details of shape get closer to the photograph than one pass of a network gets. Pixels alone
would let the geometry slide to explain hair or shadows, so the 46 landmarks are held where the network saw them, or
where they are given.

The steps are those of gradient descent with momentum ("heavy ball", Polyak 1964) under a metric. The gradient is the
loss' own, of all vertices; the metric is the damped Gauss–Newton matrix of a sample of them, which serves several
steps. A gradient costs a tenth of a matrix, and a code is half a dozen gradients from a new matrix's reach.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Decoder
from mofaface.fit_energy import Landmarks, Problem, Tools
from mofaface.losses import LossWeights, total

# The default recipe's, but for the landmarks, which are the network's own: twice as much keeps them in place.
WEIGHTS = LossWeights(land=5.0, reg=1e-4, beta=0.4, light=0.12)
# Vertices that a matrix is made from, the share of its diagonal that is added, and the steps it serves.
SAMPLE, DAMPING, SERVES = 768, 0.01, 6
# Length of a step, and how much of the one before goes on: chosen on 96 training photographs (docs/speed.md).
LENGTH, MOMENTUM = 0.8, 0.5
# A photograph whose energy has risen goes back to its best code and on with shorter steps.
SHORTER = 0.5


class Refiner:
    """Takes codes a number of steps further."""

    def __init__(self, decoder: Decoder, steps: int, weights: LossWeights = WEIGHTS):
        """The model is laid out anew, on its device: move it before. Raises ValueError for fewer than one step."""
        if steps < 1:
            raise ValueError(f"a code is refined by one step or more, got {steps}")
        self.weights, self.steps = weights, steps
        self._tools = Tools(decoder)

    @torch.no_grad()
    def __call__(
        self, code: Code, image: Float[Tensor, "batch 3 height width"], landmarks: Landmarks | None = None
    ) -> Code:
        """The codes of least energy on the way; a photograph whose energy no step lowers keeps its own.

        Where there are no `landmarks`, or none of any confidence, those that the code shows are held.
        """
        layout = self._tools.decoder.model.layout
        x = layout.pack(code).float()
        landmarks = self._held(x, image, landmarks)
        best, E_best, g_best = x, torch.full_like(x[:, 0], torch.inf), torch.zeros_like(x)
        moving, length = torch.zeros_like(x), torch.full_like(x[:, :1], LENGTH)
        factor = torch.empty(0)
        for step in range(self.steps + 1):
            E, g = self._slope(x, image, landmarks)
            lower = (E < E_best)[:, None]
            length = torch.where(lower, length, SHORTER * length)
            best, E_best = torch.where(lower, x, best), torch.where(lower[:, 0], E, E_best)
            g_best, moving = torch.where(lower, g, g_best), torch.where(lower, moving, 0.0)
            if step == self.steps:
                break
            if step % SERVES == 0:
                factor = self._metric(best, image, landmarks)
                length = torch.full_like(length, LENGTH)
            moving = MOMENTUM * moving - length * torch.cholesky_solve(g_best[..., None], factor)[..., 0]
            x = best + moving
        return layout.unpack(best)

    def _held(self, x: Float[Tensor, "batch size"], image: Tensor, given: Landmarks | None) -> Landmarks:
        """The landmarks that are given, and the code's own where there are none."""
        places = self._tools.terms(self._tools.decoder.model.layout.unpack(x), image).places
        own = Landmarks(places, torch.ones_like(places[..., 0]))
        if given is None:
            return own
        seen = (given.confidence > 0).any(1, keepdim=True)
        return Landmarks(
            torch.where(seen[..., None], given.places, own.places),
            torch.where(seen, given.confidence, own.confidence),
        )

    def _slope(
        self, x: Float[Tensor, "batch size"], image: Tensor, landmarks: Landmarks
    ) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch size"]]:
        """E_loss of each photograph, and its gradient."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            code = self._tools.decoder.model.layout.unpack(x)
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
        H = H + DAMPING * torch.diag_embed(H.diagonal(dim1=1, dim2=2))
        factor, failed = torch.linalg.cholesky_ex(H)
        # Of a code that is no number, or a face that is not seen at all, there is no matrix: it stays where it is.
        return torch.where((failed != 0)[:, None, None], torch.inf, factor).to(x)
