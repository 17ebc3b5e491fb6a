"""What a reconstruction is judged by. Values are per picture, in the units that the paper reports."""

from jaxtyping import Float, Int
from torch import Tensor

from mofaface.decoder import Face
from mofaface.losses import colour_distance


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
