"""The energy of one photograph as a function of the packed code, with its gradient and Gauss–Newton matrix.

Energy and gradient are those of all vertices, by the fastest code that can. The matrix only says how far to go which
way, so that it may come from a sample of the vertices without moving the place where a fit ends.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.code import Code, CodeLayout
from mofaface.decoder import Decoder
from mofaface.jacobian import Linearisation, Pose
from mofaface.kernels import loss_terms
from mofaface.kernels.packing import nearby
from mofaface.losses import USUAL_LIGHT, LossWeights, safe_norm

# A vertex this near to its colour (RGB distance) gets no more weight: a perfect pixel must not rule the rest. Beside
# the exact gradient, whose length there is one, more would be steps that are too long.
_NEAREST = 0.002
_ROWS_AT_ONCE = 4096
# A matrix from a sample serves so many steps, and counts so much in the running mean of them: the gradient is exact,
# and the next steps make up for what a matrix lacks.
_SERVES, _SHARE = 3, 0.25
# Multiples of the golden section, modulo one, fall between each other for ever.
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Hold:
    """A spring to a code: Σ stiffness (x − centre)² is added to the energy."""

    centre: Float[Tensor, "size"]
    stiffness: Float[Tensor, "size"]


@dataclass(frozen=True)
class Landmarks:
    """Places that hold the model's 46 landmarks, in pixels of the crop, with a confidence each."""

    places: Float[Tensor, "batch 46 2"]
    confidence: Float[Tensor, "batch 46"]


class Tools:
    """What is prepared once for a decoder and serves every photograph."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.linear = Linearisation(decoder)
        self.terms = loss_terms(decoder, decoder.model.landmarks_46)
        model = decoder.model
        rows = nearby(torch.nonzero(model.frontal)[:, 0].cpu().numpy(), model.mean_shape.cpu().numpy())
        self.rows = torch.from_numpy(rows).to(model.frontal.device)
        """The frontal vertices along a space-filling curve: evenly chosen ones are evenly spread over the face."""
        self._priors: dict[LossWeights, Quadratic] = {}

    def prior(self, weights: LossWeights) -> "Quadratic":
        """What does not depend on the photograph, without a hold; made once for the same weights."""
        if weights not in self._priors:
            device = self.rows.device
            self._priors[weights] = prior(self.decoder.model.layout, weights, None, device)
        return self._priors[weights]

    def sample(self, count: int, turn: int) -> Int[Tensor, "count"]:
        """So many of the frontal vertices, evenly spread; those of other turns lie between them."""
        steps = torch.arange(count, dtype=torch.float64, device=self.rows.device) + turn * _GOLDEN % 1
        return self.rows[(steps * (len(self.rows) / count)).long()]


@dataclass(frozen=True)
class Quadratic:
    """c + b·x + x·H x / 2, float64."""

    H: Float[Tensor, "size size"]
    b: Float[Tensor, "size"]
    c: float

    def energy(self, x: Float[Tensor, "size"]) -> float:
        """Its value."""
        x = x.double()
        return self.c + float(x @ (self.b + self.H @ x / 2))

    def gradient(self, x: Float[Tensor, "size"]) -> Float[Tensor, "size"]:
        """Its gradient."""
        return self.b + self.H @ x.double()


class Problem:
    """The energy of one photograph on one mesh, its gradient and its Gauss–Newton matrix, of packed codes."""

    def __init__(
        self,
        image: Float[Tensor, "1 3 height width"],
        tools: Tools,
        weights: LossWeights,
        landmarks: Landmarks | None = None,
        hold: Hold | None = None,
        sample: int | None = None,
    ):
        """`sample` is the number of vertices that a matrix is made from; None takes all. Energy and gradient count all."""
        if landmarks is not None and len(landmarks.places) != 1:
            raise ValueError(f"the energy is one photograph's, got the landmarks of {len(landmarks.places)}")
        self.image, self.tools, self.weights, self.landmarks = image, tools, weights, landmarks
        self.layout = tools.decoder.model.layout
        self.prior = tools.prior(weights) if hold is None else prior(self.layout, weights, hold, image.device)
        self.sample, self._calls = sample, 0
        self._mean: Tensor | None = None

    def energy(self, x: Float[Tensor, "size"]) -> float:
        """E_loss of a code; infinite where it is no number."""
        with torch.no_grad():
            if not self.weights.photo:
                return self.slope(x)[0]
            E = float(self._seen(x)) + self.prior.energy(x)
        return E if math.isfinite(E) else math.inf

    def slope(self, x: Float[Tensor, "size"]) -> tuple[float, Float[Tensor, "size"]]:
        """E_loss of a code and its gradient, float64."""
        if self.weights.photo:
            moving = x.detach().requires_grad_()
            with torch.enable_grad():
                seen = self._seen(moving)
            (g,) = torch.autograd.grad(seen, moving)
            E = float(seen.detach())
        else:
            code = self.layout.unpack(x[None])
            J, r = self._land(code, self.tools.linear.pose(code))
            E, g = float(r.square().sum()) / 2, J.mT @ r
        E += self.prior.energy(x)
        return E if math.isfinite(E) else math.inf, g.double() + self.prior.gradient(x)

    @torch.no_grad()
    def matrix(self, x: Float[Tensor, "size"]) -> Float[Tensor, "size size"]:
        """The Gauss–Newton matrix H at a code, float64: E(x + d) ≈ E(x) + g·d + d·H d / 2."""
        H, code = self.prior.H.clone(), self.layout.unpack(x[None])
        pose = self.tools.linear.pose(code)
        if self.landmarks is not None and self.weights.land:
            J, _ = self._land(code, pose)
            H += J.mT @ J
        if self.weights.photo:
            H += self._photo(code, pose)
        return H

    def _seen(self, x: Tensor) -> Tensor:
        given = self.landmarks
        targets, confidence = (None, None) if given is None else (given.places, given.confidence)
        terms = self.tools.terms(self.layout.unpack(x[None]), self.image, targets, confidence)
        return (self.weights.photo * terms.photo + self.weights.land * terms.land)[0]

    def _land(
        self, code: Code, pose: Pose
    ) -> tuple[Float[Tensor, "coordinates size"], Float[Tensor, "coordinates"]]:
        """The landmark term is |r|² / 2: the derivative of r, and r."""
        if self.landmarks is None:
            return pose.R.new_zeros(0, self.layout.size), pose.R.new_zeros(0)
        decoder, given = self.tools.decoder, self.landmarks
        uv, J = self.tools.linear.places(code, pose, decoder.model.landmarks_46)
        root = (2 * self.weights.land * given.confidence[0]).sqrt()[:, None] / decoder.camera.size
        return (root[..., None] * J).flatten(0, 1), (root * (uv - given.places[0])).flatten()

    def _photo(self, code: Code, pose: Pose) -> Tensor:
        """The matrix of the photometric term: of all vertices, or the running mean of samples."""
        if self.sample is None or self.sample >= len(self.tools.rows):
            return self._photo_of(self.tools.rows, code, pose)
        samples, again = divmod(self._calls, _SERVES)
        self._calls += 1
        if not again:
            new = self._photo_of(self.tools.sample(self.sample, samples), code, pose)
            share = max(1 / (samples + 1), _SHARE)
            self._mean = new if self._mean is None else torch.lerp(self._mean, new, share)
        assert self._mean is not None
        return self._mean

    def _photo_of(self, rows: Tensor, code: Code, pose: Pose) -> Tensor:
        linear, H = self.tools.linear, torch.zeros_like(self.prior.H)
        point = linear.at(code, pose)
        for block in rows.split(_ROWS_AT_ONCE):
            patch = linear.patch(point, block).visible()
            colours = linear.colours(self.image, point, patch)
            weight = self.weights.photo / len(rows) / safe_norm(colours.residual).clamp(min=_NEAREST)
            H += _square(linear.residuals(point, patch, colours, weight.sqrt()).flatten(0, 1))
        return H


def prior(layout: CodeLayout, weights: LossWeights, hold: Hold | None, device: torch.device) -> Quadratic:
    """The regularisation, the light's prior and the hold."""
    places = layout.slices()
    H = torch.zeros(layout.size, layout.size, dtype=torch.float64, device=device)
    for name, weight in (("alpha", 1.0), ("beta", weights.beta), ("delta", weights.delta)):
        H.diagonal()[places[name]] = 2 * weights.reg * weight
    mean = torch.full((3, 3), 1 / 3, dtype=H.dtype, device=device)
    coloured = torch.block_diag(*(torch.eye(3).to(mean) - mean for _ in range(9)))
    H[places["gamma"], places["gamma"]] = 2 * weights.light * coloured
    ambient = slice(places["gamma"].start, places["gamma"].start + 3)
    H[ambient, ambient] += 2 * weights.light * mean / 3
    b = torch.zeros_like(H[0])
    b[ambient] -= 2 * weights.light * USUAL_LIGHT / 3
    c = weights.light * USUAL_LIGHT**2
    if hold is not None:
        H.diagonal().add_(2 * hold.stiffness)
        b -= 2 * hold.stiffness * hold.centre
        c += float((hold.stiffness * hold.centre**2).sum())
    return Quadratic(H, b, c)


def _square(A: Float[Tensor, "rows size"]) -> Float[Tensor, "size size"]:
    """AᵀA, float64; what lies below the diagonal is not worked out again."""
    H = A.new_empty(A.shape[1], A.shape[1])
    edges = [A.shape[1] * k // 3 for k in range(4)]
    for start, stop in zip(edges, edges[1:], strict=False):
        H[start:stop, start:] = A[:, start:stop].mT @ A[:, start:]
        H[stop:, start:stop] = H[start:stop, stop:].mT
    return H.double()
