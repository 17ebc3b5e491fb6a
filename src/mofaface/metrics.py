"""What a reconstruction is judged by. Values are per picture, in the units that the paper reports."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mofaface.decoder import Face
from mofaface.losses import colour_distance

# The 51 points inside the face, among the 68: all but the jaw.
INNER = slice(17, 68)


def photometric_error(image: Float[Tensor, "batch 3 height width"], face: Face) -> Float[Tensor, "batch"]:
    """Mean RGB distance over the front-facing vertices, each channel in [0, 1].

    The paper's figure: 0.075 (AlexNet) and 0.073 (VGG-Face) unsupervised, 0.078 with landmarks (section 7).
    """
    front = face.front
    return (front * colour_distance(image, face)).sum(-1) / front.sum(-1).clamp(min=1)


def landmark_error(
    face: Face,
    vertices: Int[Tensor, "points"],
    places: Float[Tensor, "batch points 2"],
    confidence: Float[Tensor, "batch points"] | None = None,
) -> Float[Tensor, "batch"]:
    """Mean distance in pixels of the crop between projected and detected landmarks, optionally confidence-weighted.

    The paper's figure over 46 points: 5.3 px (AlexNet) and 4.9 px (VGG-Face) unsupervised, 3.7 and 3.4 px with landmarks.
    """
    distance = (face.uv_crop[:, vertices] - places).norm(dim=-1)
    if confidence is None:
        return distance.mean(-1)
    return (confidence * distance).sum(-1) / confidence.sum(-1).clamp(min=1e-6)


def outer_eye_distance(places: Float[Tensor, "batch 68 2"]) -> Float[Tensor, "batch"]:
    """Distance between the outer eye corners (36 and 45), in the unit of the places."""
    return (places[:, 45] - places[:, 36]).norm(dim=-1)


def box_size(places: Float[Tensor, "batch points 2"]) -> Float[Tensor, "batch"]:
    """Geometric mean of width and height of the box around the points: it does not shrink to nothing in profile."""
    return (places.amax(1) - places.amin(1)).prod(-1).sqrt()


def aligned(
    estimate: Float[Tensor, "batch vertices 3"], truth: Float[Tensor, "batch vertices 3"], turned: bool
) -> Float[Tensor, "batch vertices 3"]:
    """The estimate moved and scaled, and if `turned` rotated, onto the truth with least squared error (Umeyama 1991)."""
    centre = truth.mean(1, keepdim=True)
    a, b = estimate - estimate.mean(1, keepdim=True), truth - centre
    if turned:
        U, _, Vt = torch.linalg.svd(b.mT @ a)
        sign = torch.ones_like(U[:, 0])
        sign[:, 2] = torch.linalg.det(U @ Vt).sign()
        a = a @ ((U * sign[:, None]) @ Vt).mT
    scale = (a * b).sum((1, 2)) / (a * a).sum((1, 2)).clamp(min=1e-12)
    return centre + scale[:, None, None] * a


def point_distances(
    estimate: Float[Tensor, "batch vertices 3"],
    truth: Float[Tensor, "batch vertices 3"],
    turned: bool = False,
) -> Float[Tensor, "batch vertices"]:
    """Distance of every vertex from its true place, mm, after removing translation and isotropic scale.

    The paper's geometric error is its mean with the rotation kept: "this includes the estimated rotation" (section 7); it
    falls from 21.6 to 4.5 mm there. `turned` removes the rotation as well, which leaves the shape.
    """
    return (aligned(estimate, truth, turned) - truth).norm(dim=-1)


def light_error(
    estimate: Float[Tensor, "batch 9 3"], truth: Float[Tensor, "batch 9 3"]
) -> Float[Tensor, "batch"]:
    """Root mean square difference of the shading of a white sphere, over its surface and RGB.

    The harmonics are orthonormal up to the factor that makes the first one 1, so the mean square over the sphere is
    the sum of the coefficients' squares.
    """
    return ((estimate - truth) ** 2).sum(1).mean(-1).sqrt()


def rotation_error(
    estimate: Float[Tensor, "batch 3 3"], truth: Float[Tensor, "batch 3 3"]
) -> Float[Tensor, "batch"]:
    """The angle between two rotations, degrees."""
    # |R − S|_F = 2√2 sin(angle / 2), which is exact near zero, where the cosine is not.
    half = ((estimate - truth).flatten(1).norm(dim=-1) / math.sqrt(8)).clamp(max=1)
    return torch.rad2deg(2 * half.asin())
