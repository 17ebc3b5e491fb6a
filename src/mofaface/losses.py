"""The loss of the autoencoder (equations 7 to 10). Terms are unweighted, one value per picture."""

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mofaface.code import Code
from mofaface.decoder import Face
from mofaface.sampling import sample_bilinear

# With the ambient offset of 0.7 a mean shading of 0.9, under which the average skin has the average colour of faces in
# photographs.
USUAL_LIGHT = 0.2


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, with the paper's values."""

    land: float = 0.0
    """w_land: 0 trains unsupervised, 1 with the landmarks as surrogate task."""
    photo: float = 1.92
    """w_photo, dense photometric alignment."""
    reg: float = 2.9e-5
    """w_reg, statistical regularisation."""
    beta: float = 1.7e-3
    """w_beta, reflectance inside the regulariser."""
    delta: float = 0.8
    """w_delta, expression inside the regulariser."""
    light: float = 0.0
    """Weight of the light's prior: 0 in the paper, which lets bright or coloured light explain skin."""
    contour: float = 0.0
    """Weight of the jaw's 17 points beside the 46: 0 in the paper, where faces shrink away from what is not skin."""
    truth: float = 0.0
    """Weight of the distance from true codes, of a corpus of rendered faces alone: 0 in the paper."""
    refined: float = 0.0
    """Weight of the distance of the answer from where some steps of the refiner take it: 0 in the paper."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if not 0 <= getattr(self, f.name) < float("inf"):
                raise ValueError(f"weight {f.name} must be a finite number ≥ 0, got {getattr(self, f.name)}")
        if self.contour and not self.land:
            raise ValueError(
                "weight contour belongs to the landmarks, and weight land is 0: set contour to 0 too"
            )


def photometric(image: Float[Tensor, "batch 3 height width"], face: Face) -> Float[Tensor, "batch"]:
    """E_photo: Σ over front-facing vertices of the RGB distance, divided by N (equation 8)."""
    return (face.front * colour_distance(image, face)).sum(-1) / face.frontal.sum()


def colour_distance(
    image: Float[Tensor, "batch 3 height width"], face: Face
) -> Float[Tensor, "batch vertices"]:
    """‖I(u_i) − c_i‖₂ for every vertex, RGB in [0, 1]."""
    return safe_norm(sample_bilinear(image, face.uv_crop) - face.colour)


def landmark(
    face: Face,
    vertices: torch.Tensor,
    places: Float[Tensor, "batch points 2"],
    confidence: Float[Tensor, "batch points"],
    size: int,
) -> Float[Tensor, "batch"]:
    """E_land: Σ_j c_j ‖u_kj − s_j‖² over the landmarks (equation 9), lengths in widths of the crop.

    The paper does not give the unit; with the crop's width a weight of 1 balances the photometric term (docs/method.md).
    """
    difference = (face.uv_crop[:, vertices] - places) / size
    return (confidence * (difference**2).sum(-1)).sum(-1)


def regularisation(code: Code, beta: float, delta: float) -> Float[Tensor, "batch"]:
    """E_reg: |α|² + w_β |β|² + w_δ |δ|², in squared standard deviations (equation 10)."""
    a, b, d = ((part**2).sum(-1) for part in (code.alpha, code.beta, code.delta))
    return a + beta * b + delta * d


def light_prior(code: Code) -> Float[Tensor, "batch"]:
    """Squared distance of the light from white and of its mean level from a usual one, in squares of shading.

    No paper term: photographs alone cannot tell dark skin in bright light from light skin in dim light.
    """
    grey = code.gamma.mean(-1, keepdim=True)
    return ((code.gamma - grey) ** 2).sum((-2, -1)) + (grey[..., 0, 0] - USUAL_LIGHT) ** 2


def total(
    photo: Float[Tensor, "batch"], land: Float[Tensor, "batch"] | None, code: Code, weights: LossWeights
) -> Float[Tensor, "batch"]:
    """E_loss, the weighted sum of the terms (equation 7).

    Raises ValueError when landmarks have a weight but no term: a forgotten term must not pass for a perfect one.
    """
    E = weights.photo * photo + weights.reg * regularisation(code, weights.beta, weights.delta)
    if weights.light:
        E = E + weights.light * light_prior(code)
    if weights.land == 0:
        return E
    if land is None:
        raise ValueError(
            f"w_land is {weights.land}, but no landmark term came; give landmarks or set w_land to 0"
        )
    return E + weights.land * land


def safe_norm(v: Float[Tensor, "*batch channels"]) -> Float[Tensor, "*batch"]:
    """Length of v with a zero subgradient where v is zero, so that a perfect pixel gives no NaN."""
    s = (v * v).sum(-1)
    zero: Bool[Tensor, "*batch"] = s == 0
    return torch.where(zero, torch.zeros_like(s), torch.where(zero, torch.ones_like(s), s).sqrt())
