"""The energy of one photograph as a function of the packed code, with its gradient and Gauss–Newton matrix."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.decoder import Decoder
from mofaface.jacobian import Linearisation, visible_rows
from mofaface.kernels import loss_terms
from mofaface.losses import USUAL_LIGHT, LossWeights, safe_norm, total
from mofaface.sampling import sample_bilinear

# A vertex this near to its colour (RGB distance) gets no more weight: a perfect pixel must not rule the rest.
_NEAREST = 0.02
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Hold:
    """A spring to a code: Σ stiffness (x − centre)² is added to the energy."""

    centre: Float[Tensor, "size"]
    stiffness: Float[Tensor, "size"]


@dataclass(frozen=True)
class Landmarks:
    """Detected places of the model's 46 landmarks in pixels of the crop, with a confidence each."""

    places: Float[Tensor, "1 46 2"]
    confidence: Float[Tensor, "1 46"]


class Tools:
    """What is prepared once for a decoder and serves every photograph."""

    def __init__(self, decoder: Decoder):
        self.decoder = decoder
        self.linear = Linearisation(decoder)
        self.terms = loss_terms(decoder, decoder.model.landmarks_46)


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
        """`sample` is the number of vertices that a gradient and matrix are made from; the energy counts all."""
        self.image, self.tools, self.weights = image, tools, weights
        self.landmarks, self.hold = landmarks, hold
        self.decoder = tools.decoder
        self.layout = tools.decoder.model.layout
        self.sample, self._random = sample, torch.Generator().manual_seed(0)

    @torch.no_grad()
    def energy(self, x: Float[Tensor, "size"]) -> float:
        """E_loss of a code; infinite where it is no number."""
        code = self.layout.unpack(x[None])
        given = self.landmarks
        targets, confidence = (None, None) if given is None else (given.places, given.confidence)
        terms = self.tools.terms(code, self.image, targets, confidence)
        E = float(total(terms.photo, terms.land, code, self.weights))
        if self.hold is not None:
            E += float((self.hold.stiffness * (x - self.hold.centre) ** 2).sum())
        return E if math.isfinite(E) else math.inf

    @torch.no_grad()
    def system(self, x: Float[Tensor, "size"]) -> tuple[Float[Tensor, "size"], Float[Tensor, "size size"]]:
        """Gradient g and Gauss–Newton matrix H at a code, float64: E(x + d) ≈ E(x) + g·d + d·H d / 2."""
        linear = self.tools.linear
        code = self.layout.unpack(x[None])
        face, point = self.decoder(code), linear.at(code)
        g, H = self._prior(x)
        if self.weights.photo:
            chosen, share = self._chosen(visible_rows(face.front))
            for rows in chosen.split(_ROWS_AT_ONCE):
                r = (sample_bilinear(self.image, face.uv_crop[:, rows]) - face.colour[:, rows])[0]
                weight = self.weights.photo / face.frontal.sum() / safe_norm(r).clamp(min=_NEAREST)
                root = (share * weight).sqrt()
                _add(g, H, linear.residuals(self.image, point, face, rows, root), root[:, None] * r)
        if self.landmarks is not None and self.weights.land:
            rows, size = self.decoder.model.landmarks_46, self.decoder.camera.size
            r = (face.uv_crop[:, rows] - self.landmarks.places)[0] / size
            root = (2 * self.weights.land * self.landmarks.confidence[0]).sqrt()
            _add(g, H, root[:, None, None] * linear.places(point, face, rows) / size, root[:, None] * r)
        return g, H

    def _chosen(self, rows: Int[Tensor, "rows"]) -> tuple[Int[Tensor, "chosen"], float]:
        """The vertices of one system, all or a new random sample of them, and what each of them stands for."""
        if self.sample is None or len(rows) <= self.sample:
            return rows, 1.0
        order = torch.randperm(len(rows), generator=self._random)
        return rows[order[: self.sample].to(rows.device)], len(rows) / self.sample

    def _prior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient and matrix of the regularisation, the light's prior and the hold, all quadratic."""
        w, places = self.weights, self.layout.slices()
        H = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
        for name, weight in (("alpha", 1.0), ("beta", w.beta), ("delta", w.delta)):
            H.diagonal()[places[name]] = 2 * w.reg * weight
        mean = torch.full((3, 3), 1 / 3, dtype=H.dtype, device=x.device)
        coloured = torch.block_diag(*(torch.eye(3).to(mean) - mean for _ in range(9)))
        H[places["gamma"], places["gamma"]] = 2 * w.light * coloured
        ambient = slice(places["gamma"].start, places["gamma"].start + 3)
        H[ambient, ambient] += 2 * w.light * mean / 3
        g = H @ x.double()
        g[ambient] -= 2 * w.light * USUAL_LIGHT / 3
        if self.hold is not None:
            H.diagonal().add_(2 * self.hold.stiffness)
            g += 2 * self.hold.stiffness * (x - self.hold.centre)
        return g, H


def _add(g: Tensor, H: Tensor, J: Float[Tensor, "rows k size"], r: Float[Tensor, "rows k"]) -> None:
    """Add the rows' part of Σ |r|² / 2 to gradient and matrix."""
    A = J.flatten(0, 1)
    H += (A.mT @ A).double()
    g += (A.mT @ r.flatten()).double()
